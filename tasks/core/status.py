"""DESK/status.json: the truth about a stage's process, always written whole.

{"state": "running" | "done" | "failed", "exit_code", "error", "cause", "pid", "host", "started_at", "ended_at",
"seconds_before", and of several ranks "launch"}. `cause` is null until it failed, then "user_error", "code_error",
"transient", "paused", "hang", "out_of_memory", "unhealthy" or "interrupted"; `seconds_before` counts what earlier
attempts at this directory took.

Under `accelerate launch` several ranks share the file. Rank 0 alone says "running", "done", "paused", "unhealthy" and
"interrupted"; another rank speaks only when it fails by itself, as "rank 3: ...". The first final word of a launch
stands, except that "interrupted" gives way to a rank's real error: when a rank dies the launcher ends its siblings,
which must not hide why. So "done" means that rank 0 ended well, that all it writes (model, metrics) is there, and that
no rank had failed by then; a rank that fails afterwards, while it is taken down, is told by the log and by the
launcher's exit code alone.
A rank that is killed (SIGKILL) says nothing: rank 0 is then "interrupted", or tells of a broken connection.
"""

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from tasks.core.attempts import Attempt, begin_attempt, end_attempt
from tasks.core.ending import EXIT_OK, INTERRUPTED, SAID_TOGETHER, Ending
from tasks.core.files import read_json, write_json


class Status:
    """What this process says in DESK/status.json and, as rank 0, in attempts.jsonl."""

    def __init__(self, desk: Path) -> None:
        self.desk, self.path = desk, desk / "status.json"
        self.rank, self.num_ranks = (
            int(os.environ.get(name) or given) for name, given in (("RANK", 0), ("WORLD_SIZE", 1))
        )
        self._launch = _launch()
        self._attempt: Attempt | None = None
        self._said: dict[str, Any] = {"state": "running", "exit_code": None, "error": None, "cause": None}
        self._said |= {"pid": os.getpid(), "host": socket.gethostname(), "started_at": time.time(), "ended_at": None}
        self._said |= {"launch": self._launch} if self._launch else {}

    def begin(self) -> None:
        """Say "running"."""
        if self.rank:
            return
        self._attempt, seconds_before = begin_attempt(self.desk)
        self._said |= {"started_at": self._attempt.started_at, "seconds_before": seconds_before}
        if not self._final_word():  # a rank that imports faster can also fail faster
            write_json(self.path, self._said)

    def end(self, ending: Ending) -> None:
        """Say how it ended, unless that is not ours to say."""
        is_our_error = ending.exit_code != EXIT_OK and ending.cause not in ("interrupted", *SAID_TOGETHER)
        ended_at = time.time()
        if self._attempt:
            with contextlib.suppress(OSError):  # a full disk: what the status says matters more
                end_attempt(self.desk, self._attempt, ended_at, ending.exit_code, ending.cause)
        final = self._final_word()
        if (self.rank and not is_our_error) or (final and not (final == INTERRUPTED.cause and is_our_error)):
            return
        error = f"rank {self.rank}: {ending.error}" if self.rank else ending.error
        self._said |= {"state": "done" if ending.exit_code == EXIT_OK else "failed", "exit_code": ending.exit_code}
        self._said |= {"error": error, "cause": ending.cause, "ended_at": ended_at}
        self._write_last_words()

    @classmethod
    def of_this_process(cls, desk: Path) -> "Status":
        """To speak in the place of a main thread that hangs, with what it said when it began."""
        status = cls(desk)
        with contextlib.suppress(OSError, json.JSONDecodeError, KeyError):
            status._said |= {key: read_json(status.path)[key] for key in ("started_at", "seconds_before")}
        return status

    def _final_word(self) -> str | None:
        """ "done", or the cause of the failure that another rank of this launch has told; None when none has."""
        if self.num_ranks == 1:
            return None
        try:
            found = read_json(self.path)
        except (OSError, json.JSONDecodeError):
            return None
        is_final = found.get("launch") == self._launch and found.get("ended_at") is not None
        return found.get("cause") or found["state"] if is_final else None

    def _write_last_words(self) -> None:
        """Write even on a full disk: progress.json, of no use any more, gives the space it takes."""
        try:
            write_json(self.path, self._said)
        except OSError:
            (self.desk / "progress.json").unlink(missing_ok=True)
            self.path.write_text(json.dumps(self._said), encoding="utf-8")  # in place, in the block it has


def _launch() -> str | None:
    """What the ranks of one launch have in common and no two launches have: the port where they meet, and the job.

    None for a process alone. Times would not do: the nodes' clocks differ, and a rank can fail within a second.
    """
    if "MASTER_PORT" not in os.environ:
        return None
    names = ("MASTER_PORT", "SLURM_JOB_ID", "SLURM_RESTART_COUNT")
    return "/".join(os.environ.get(name, "") for name in names)
