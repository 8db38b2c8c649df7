"""Run a foreign Python program on one input, fenced in as well as an ordinary user of Linux can.

Always: a process of its own with limits on CPU time, memory, size of a file, open files and number of processes; an
empty environment; a temporary directory; at the wall-clock limit its whole process group is killed. Where the kernel
lets an ordinary user have namespaces (`has_namespaces`), also: no network, no other process in sight, nothing can be
written but a few MB in memory, and all that the program started dies with it.

What this does not keep out: reading any file that the user may read, the problems' answers among them; GPUs and sockets
in the file system; faults of the kernel. Without namespaces neither the network nor writing to the user's files, and a
program that leaves its process group outlives the limit. Root is held to no number of processes, and an outside program
reached through a socket to none of this. Against programs that are meant to do harm, use a virtual machine.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

_CHILD = Path(__file__).with_name("sandbox_child.py")
_MAX_FILE_MB = 8


class Limits(NamedTuple):
    """What one run of a program may use."""

    timeout_s: float
    memory_gb: float


class Outcome(NamedTuple):
    """What a program printed, None when it failed, and whether that was for want of time."""

    output: str | None
    is_timeout: bool = False


def run_program(source: str, given: str, limits: Limits) -> Outcome:
    """Run the Python program `source` with `given` on its standard input.

    It gets the standard library only. A status other than 0, more than the limits, or 8 MB of output is a failure.
    """
    with tempfile.TemporaryDirectory(prefix="r1-code-", ignore_cleanup_errors=True) as directory:
        home, room = Path(directory), Path(directory) / "room"
        room.mkdir()
        (room / "program.py").write_text(source, encoding="utf-8", errors="replace")
        (home / "in").write_text(given, encoding="utf-8", errors="replace")
        allowed = {
            "cpu_s": int(limits.timeout_s) + 1,
            "memory_mb": int(limits.memory_gb * 1024),
            "file_mb": _MAX_FILE_MB,
            "disk_mb": 2 * _MAX_FILE_MB,
            "num_processes": 16,
        }
        # Files, not pipes: nobody has to read along, and the limit on a file's size holds for the output too.
        with open(home / "in", "rb") as stdin, open(home / "out", "wb") as stdout:
            process = _start(str(room), json.dumps(allowed), stdin, stdout)
            status = _wait_and_kill(process, limits.timeout_s)
        output = (home / "out").read_text(encoding="utf-8", errors="replace") if status == 0 else None
        return Outcome(output, is_timeout=status is None)


@cache
def has_namespaces() -> bool:
    """Whether this machine lets us shut the network and the file system off."""
    with tempfile.TemporaryDirectory(prefix="r1-code-") as directory:
        return _wait_and_kill(_start(directory, "--probe", subprocess.DEVNULL, subprocess.DEVNULL), 10.0) == 0


def _start(directory: str, what: str, stdin: object, stdout: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_CHILD), directory, what],
        stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL,
        cwd=directory, env={"LANG": "C.UTF-8", "PYTHONIOENCODING": "utf-8"}, start_new_session=True,
    )  # type: ignore[call-overload]  # fmt: skip


def _wait_and_kill(process: "subprocess.Popen[bytes]", timeout_s: float) -> int | None:
    """The exit status, None at the limit; nothing of the process group is left in either case."""
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill_group(process)


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all have ended
    process.wait()
