"""Prefect's own server, command and process worker, in the repository's root, with a store and the toy stage."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from r1_process import PROJECT_DIR, TOYS_DIR, answers, end, wait_until


class PrefectServer:
    """A full `prefect server start` on a port of its own, which stays the same when it is started again.

    Its records lie in PREFECT_HOME (SQLite) or in `database`, the address of one.
    """

    def __init__(self, home: Path, database: str | None = None) -> None:
        self.home, home_name = home, str(home)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = os.environ | {"PREFECT_API_URL": self.url, "PREFECT_HOME": home_name}
        if database is not None:
            self.environment["PREFECT_API_DATABASE_CONNECTION_URL"] = database

    def start(self) -> None:
        """Returns when it answers."""
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )
        wait_until(lambda: answers(f"{self.url}/health"), 120, "Prefect's server to answer")

    def kill(self) -> None:
        """SIGKILL to all of it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """As a user would."""
        end(self.process)


class PrefectCommand:
    """`prefect("deploy", "--all")` runs Prefect's command and returns its output."""

    def __init__(self, url: str, store: Path) -> None:
        self.store = store
        self.environment = os.environ | {
            "PREFECT_API_URL": url, "R1_STORE": str(store), "PYTHONPATH": str(TOYS_DIR), "COLUMNS": "200",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }  # fmt: skip

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=PROJECT_DIR, env=self.environment, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=90,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start_worker(self, log_path: Path) -> "subprocess.Popen[bytes]":
        """Make the deployments of prefect.yaml known, and start a process worker, which leads its own session."""
        self("work-pool", "create", "r1", "--type", "process", "--overwrite")
        self("--no-prompt", "deploy", "--all")
        self("--no-prompt", "deployment", "schedule", "pause", "--all")  # no night during a test
        with log_path.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "prefect", "worker", "start", "--pool", "r1"],
                cwd=PROJECT_DIR, env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip


def flow_run_id(output: str) -> str:
    """The id in what `prefect deployment run` says."""
    found = re.search(r"UUID: ([0-9a-f-]{36})", output)
    assert found is not None, output
    return found[1]
