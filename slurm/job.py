"""The contract between the flow and whatever runs a stage: what a job is, and how its end is told.

A job runs `python -m tasks.<stage> DIR`. The process itself keeps DIR/status.json, so that its state can be read by
anyone at any time: after the flow died, from another node, when a scheduler has forgotten it.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from slurm.resources import Resources

LOG = "log.txt"
LAUNCH = "launch.json"
STATUS = "status.json"
STOP = "stop"  # a file that asks the stage to save its work and end with TRY_AGAIN
USER_ERROR = 2  # exit code: the job says how the user can mend it
TRY_AGAIN = 75  # exit code EX_TEMPFAIL: the same job may well succeed later, from where it stopped


class Cause(StrEnum):
    """Why a job did not end well."""

    # Told by the stage's own process.
    USER_ERROR = "user_error"
    CODE_ERROR = "code_error"
    TRANSIENT = "transient"
    PAUSED = "paused"
    OUT_OF_MEMORY = "out_of_memory"
    UNHEALTHY = "unhealthy"
    INTERRUPTED = "interrupted"
    # Told by whoever watches it.
    HANG = "hang"
    TIME_LIMIT = "time_limit"
    PREEMPTED = "preempted"
    NODE_FAILURE = "node_failure"
    SERVER_DIED = "server_died"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    UNKNOWN = "unknown"


RETRIES = {Cause.TRANSIENT: 2, Cause.HANG: 1, Cause.NODE_FAILURE: 1, Cause.SERVER_DIED: 1, Cause.UNKNOWN: 1}
"""How often a job that ended for this cause is started again; what is not here would only end in the same way."""


@dataclass(frozen=True)
class Job:
    """One stage to run in `directory`, or a share of it. `num_cpus`: cores, where the recipe does not say.

    `is_distributed`: the stage may run as several processes, one a GPU; otherwise it is one, with all the GPUs.
    """

    stage: str
    directory: Path
    resources: Resources = field(default_factory=Resources)
    num_cpus: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    share: tuple[int, int] | None = None
    is_distributed: bool = True

    @property
    def processes_per_node(self) -> int:
        """Processes of the stage on each training node, as `accelerate launch` starts them where it is not one."""
        return self.resources.processes_per_node if self.is_distributed else 1

    @property
    def name(self) -> str:
        """`<stage>-<fingerprint>`: the same for whoever asks for this artifact, so that a job can be found by it."""
        return self.directory.name

    @property
    def desk(self) -> Path:
        """Where the process keeps status.json, progress.json and its log: a share has a place of its own."""
        return self.directory / "work" / "shares" / str(self.share[0]) if self.share else self.directory


@dataclass(frozen=True)
class End:
    """How a job ended: exit code 0 is success, `error` is one paragraph, empty on success."""

    exit_code: int
    error: str
    cause: Cause | None = None


Wait = Callable[[str, float], None]
"""Tells what is waited for and sleeps for some seconds. Whatever it raises ends the waiting."""


def wait_quietly(what: str, seconds: float) -> None:
    """Just sleep. See Wait."""
    time.sleep(seconds)


class RunningJob(Protocol):
    """A job that was started or that was found running."""

    def poll(self) -> End | None:
        """How it ended, or None while it runs."""
        ...

    def note(self) -> str:
        """Where it stands, in a few words, such as "queued (Priority)"; empty when there is nothing to say."""
        ...

    def pause(self) -> None:
        """Have `poll` soon tell an end with TRY_AGAIN and Cause.PAUSED: ask it to save and end, or let go of it."""
        ...

    def cancel(self) -> None:
        """End it and all its children; returns when they are gone."""
        ...


class Launcher(Protocol):
    """A place where jobs run."""

    def commands(self, job: Job) -> list[list[str]]:
        """What `start` runs, for people to read."""
        ...

    def find(self, job: Job, wait: Wait) -> RunningJob | None:
        """The job, when a flow that died started it: still running, or ended well with nobody there to see it."""
        ...

    def start(self, job: Job, wait: Wait) -> RunningJob:
        """Start the job; it does not run yet."""
        ...


@dataclass(frozen=True)
class Ended:
    """A job that is over before anybody could watch it: it was found so, or it was refused."""

    end: End

    def poll(self) -> End:
        """See RunningJob."""
        return self.end

    def note(self) -> str:
        """See RunningJob."""
        return ""

    def pause(self) -> None:
        """See RunningJob."""

    def cancel(self) -> None:
        """See RunningJob."""


def read_status(directory: Path) -> dict[str, Any]:
    """DIR/status.json, or an empty mapping while there is none."""
    return _read(directory / STATUS)


def write_status(directory: Path, end: End) -> None:
    """Say how a job ended that could not say it itself. Written whole, as by the job."""
    state = {"state": "failed", "exit_code": end.exit_code, "error": end.error, "cause": end.cause}
    partial = directory / f".{STATUS}.{os.getpid()}.partial"
    partial.write_text(json.dumps(read_status(directory) | state | {"ended_at": time.time()}), encoding="utf-8")
    partial.replace(directory / STATUS)


def read_progress(directory: Path) -> dict[str, Any]:
    """DIR/progress.json, or an empty mapping while there is none."""
    return _read(directory / "progress.json")


def write_launch(job: Job, max_continuations: int) -> None:
    """Leave DIR/launch.json for slurm/node.py, which runs the job where it cannot ask the recipe or the profile."""
    launch = {
        "stage": job.stage,
        "resources": job.resources.model_dump(mode="json"),
        "num_cpus": job.num_cpus,
        "is_distributed": job.is_distributed,
        "max_continuations": max_continuations,
    }
    (job.directory / LAUNCH).write_text(json.dumps(launch, indent=2), encoding="utf-8")


def read_launch(directory: Path, share: tuple[int, int] | None = None) -> tuple[Job, int]:
    """The job in `directory`, and its max_continuations. Without launch.json: the stage on what the allocation has."""
    launch = _read(directory / LAUNCH)
    if not launch:
        gpus, nodes = (
            int(os.environ.get(key, least)) for key, least in (("SLURM_GPUS_ON_NODE", 0), ("SLURM_NNODES", 1))
        )
        launch = {"resources": {"gpus": gpus, "nodes": nodes}, "max_continuations": 20}
        launch["stage"] = _read(directory / "config.json")["stage"]
    resources = Resources.model_validate_json(json.dumps(launch["resources"]))
    cpus = launch.get("num_cpus") or int(os.environ.get("SLURM_CPUS_PER_TASK", 0)) or None
    is_distributed = launch.get("is_distributed", True)
    job = Job(launch["stage"], directory, resources, cpus, share=share, is_distributed=is_distributed)
    return job, launch["max_continuations"]


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content
    except (OSError, json.JSONDecodeError):
        return {}


def told_end(directory: Path) -> End | None:
    """How the job ended by its own word; None when it did not say."""
    status = read_status(directory)
    if status.get("state") == "done":
        return End(0, "")
    if status.get("state") == "failed" and isinstance(status["exit_code"], int):
        cause = status.get("cause")
        known = Cause(cause) if cause in list(Cause) else None
        return End(status["exit_code"], str(status["error"]), known)
    return None


def log_tail(directory: Path, num_lines: int = 20, name: str = LOG) -> str:
    """The last lines of the job's log, or of another file beside it."""
    try:
        with (directory / name).open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - 64 * 1024))
            lines = log.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-num_lines:])
