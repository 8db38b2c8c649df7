"""The `r1` command in processes of its own, and what the tests of processes share."""

import contextlib
import errno
import json
import os
import pty
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT_DIR = Path(__file__).resolve().parents[1]
TOYS_DIR = PROJECT_DIR / "tests" / "toys"


def toy_checkpoints(store: Path) -> list[Path]:
    """What the toys that are being built in `store` have saved."""
    return sorted(store.glob(str(Path(".staging", "*", "work", "checkpoint.json"))))


class R1:
    """The `r1` command in processes of its own, with a store of its own."""

    def __init__(self, directory: Path, prefect_url: str) -> None:
        self.directory, self.store = directory, directory / "store"
        self.environment = os.environ | {
            "PREFECT_API_URL": prefect_url, "R1_STORE": str(self.store), "PYTHONPATH": str(TOYS_DIR), "COLUMNS": "160",
        }  # fmt: skip

    def start(self, *arguments: str | Path, **options: Any) -> "subprocess.Popen[str]":
        """Start it; its output is piped unless `options` say otherwise."""
        command = [sys.executable, "-c", "from flows.cli import main; main()", *map(str, arguments)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=PROJECT_DIR, env=self.environment, text=True, **pipes | options)

    def __call__(self, *arguments: str | Path, exit_code: int = 0) -> str:
        """Run it to its end; returns stdout and stderr together, with no traceback among them."""
        process = self.start(*arguments, stderr=subprocess.STDOUT)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == exit_code, output
        assert "Traceback" not in output
        return str(output)

    def on_terminal(self, *arguments: str | Path, exit_code: int = 0) -> str:
        """Run it to its end on a pseudo-terminal; returns what it wrote there, control sequences and all."""
        ours, theirs = pty.openpty()
        process = self.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        output = b""
        while True:
            try:
                output += os.read(ours, 65536)
            except OSError as error:  # Linux tells the end of a pseudo-terminal so
                assert error.errno == errno.EIO
                break
        os.close(ours)
        text = output.decode()
        assert process.wait() == exit_code, text
        assert "Traceback" not in text
        return text

    def runs(self) -> list[dict[str, Any]]:
        """Every run.json of the store, oldest first."""
        runs = [json.loads(path.read_text()) for path in self.store.glob("runs/*/run.json")]
        return sorted(runs, key=lambda run: run["started_at"])

    def recipe(self, text: str, name: str = "test") -> Path:
        """Write a recipe: `text` is what stands below `stages:`."""
        path = self.directory / f"{name}.yaml"
        path.write_text(f"name: {name}\ndescription: A test\nseed: 0\nstages:\n{text}")
        return path


def stage_pids(store: Path) -> list[int]:
    """The processes that have the store in their command line: stages, their helpers."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_alive = process.status() != psutil.STATUS_ZOMBIE
            if is_alive and any(f"{store}/.staging" in argument for argument in process.cmdline()):
                found.append(process.pid)
    return found


def kill_stages(store: Path) -> None:
    """SIGKILL to what the store's stages left running."""
    for pid in stage_pids(store):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_until(is_so: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Poll until `is_so()` gives something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while not (value := is_so()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain for {what}"
        time.sleep(0.05)
    return value


def answers(url: str) -> bool:
    """Whether a GET succeeds."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
        return True
    return False


def end(process: "subprocess.Popen[Any]") -> None:
    """End a process that leads its own session, and the session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
