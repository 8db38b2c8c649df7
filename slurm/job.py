"""The contract between the flow and whatever runs a stage: what a job is, and how its end is told.

A job runs `python -m tasks.<stage> DIR`. The process itself keeps DIR/status.json, so that its state can be read by
anyone at any time: after the flow died, from another node, when a scheduler has forgotten it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

LOG = "log.txt"
STATUS = "status.json"
USER_ERROR = 2  # exit code: the job says how the user can mend it
TRY_AGAIN = 75  # exit code EX_TEMPFAIL: the same job may well succeed later, from where it stopped


@dataclass(frozen=True)
class Job:
    """One stage to run in `directory`. `num_processes` > 1 goes through `accelerate launch`."""

    stage: str
    directory: Path
    num_processes: int = 1
    num_cpus: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class End:
    """How a job ended: exit code 0 is success, `error` is one paragraph, empty on success."""

    exit_code: int
    error: str


class RunningJob(Protocol):
    """A job that was started or that was found running."""

    def poll(self) -> End | None:
        """How it ended, or None while it runs."""
        ...

    def cancel(self) -> None:
        """End it and all its children; returns when they are gone."""
        ...


class Launcher(Protocol):
    """A place where jobs run."""

    def command(self, job: Job) -> list[str]:
        """What `start` runs, for people to read."""
        ...

    def find(self, job: Job) -> RunningJob | None:
        """The job, when a flow that died started it: still running, or ended well with nobody there to see it."""
        ...

    def start(self, job: Job) -> RunningJob:
        """Start the job; it does not run yet."""
        ...


def read_status(directory: Path) -> dict[str, object]:
    """DIR/status.json, or an empty mapping while there is none."""
    try:
        status: dict[str, object] = json.loads((directory / STATUS).read_text(encoding="utf-8"))
        return status
    except (OSError, json.JSONDecodeError):
        return {}


def log_tail(directory: Path, num_lines: int = 20) -> str:
    """The last lines of the job's log."""
    try:
        with (directory / LOG).open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - 64 * 1024))
            lines = log.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-num_lines:])
