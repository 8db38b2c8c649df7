"""A real PostgreSQL of the tests' own: initialised in a directory, reached on a port of its own, ended with a test."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
FOUND = shutil.which("initdb") or next(
    (str(place / "initdb") for place in PLACES if (place / "initdb").is_file()), None
)
REASON = "PostgreSQL is not installed (Debian: apt-get install postgresql)"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database, as Prefect takes it, for the time of the block."""
    # Not below pytest's directory: PostgreSQL's own user must come to it, and every pytest that starts closes that.
    with tempfile.TemporaryDirectory(prefix="r1-postgres-") as directory:
        yield from _serve(Path(directory))


def _serve(directory: Path) -> Iterator[str]:
    assert FOUND is not None, REASON
    commands = Path(FOUND).parent
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, log = directory / "data", directory / "log"
    user = _user()
    if user is not None:  # it refuses to run as root
        shutil.chown(directory, user)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory} -c fsync=off"

    def run(name: str, *arguments: str) -> None:
        command = [str(commands / name), *arguments]
        done = subprocess.run(command, user=user, cwd=directory, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    run("initdb", "-D", str(data), "-U", "prefect", "--auth=trust", "--no-sync")
    run("pg_ctl", "-D", str(data), "-l", str(log), "-o", options, "-w", "start")
    try:
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")


def _user() -> str | None:
    """Who runs it; None for oneself."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
