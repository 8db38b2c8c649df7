"""Build one stage: look it up, lock it, stage it, launch it, watch it, publish it."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from flows.plan import Plan, PlannedStage
from flows.siblings import find_siblings
from slurm.job import STATUS, USER_ERROR, End, Job, Launcher, RunningJob, log_tail, read_status
from tasks.core.files import read_json, write_json
from tasks.core.stage import Stage
from tasks.core.store import Hit, Lock, Run, Store, code_hash, disk_errors

POLL_EVERY_S = 0.2
PROVENANCE = Path("work", "provenance.json")  # the stage's process leaves it when it ends well

EventKind = Literal["waiting", "drifted", "cached", "building", "running", "built", "failed", "stopped"]


@dataclass(frozen=True)
class Event:
    """Something to show while a stage is built: `progress` is what the stage wrote into progress.json."""

    name: str
    kind: EventKind
    text: str = ""
    progress: dict[str, Any] | None = None


Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Built:
    """An artifact that a run may use, and whether it had to be built for that."""

    name: str
    stage: str
    fingerprint: str
    path: Path
    cached: bool
    wall_s: float
    metrics: dict[str, Any]


class StageFailed(Exception):
    """A stage's process failed; `end` says how, `directory` holds its log."""

    def __init__(self, name: str, end: End, directory: Path) -> None:
        self.stage_name, self.end, self.directory = name, end, directory
        super().__init__(self.describe())

    @property
    def is_user_error(self) -> bool:
        """Whether the message says how the user can mend it, so that the log adds nothing."""
        return self.end.exit_code == USER_ERROR

    def describe(self) -> str:
        """One paragraph, then the log's path and, unless the paragraph says it all, the log's tail."""
        text = f"stage {self.stage_name} failed: {self.end.error}\nlog: {self.directory / 'log.txt'}"
        return text if self.is_user_error else f"{text}\n{log_tail(self.directory)}"


class Stopped(Exception):
    """The run was cancelled while this stage was being built; what it had done is kept for the next run."""


@dataclass(frozen=True)
class Builder:
    """Builds the stages of one plan in one store with one launcher.

    Setting `stop` ends every job that runs, from whichever thread. `num_cpus` is each stage's share of the cores.
    """

    plan: Plan
    store: Store
    launcher: Launcher
    run_of: Callable[[], Run]
    listen: Listener
    rebuild: frozenset[str] = frozenset()
    num_cpus: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    _begun: set[str] = field(default_factory=set)  # to be rebuilt, and begun: a second attempt resumes

    def build(self, stage: PlannedStage) -> Built:
        """The artifact of `stage`, from the store or newly built.

        Raises StageFailed, Stopped, LockLost, and UserError for trouble with the store.
        """
        kind, fingerprint = stage.spec.stage.name, stage.fingerprint
        may_reuse = stage.name not in self.rebuild
        if may_reuse and isinstance(found := self.store.lookup(kind, fingerprint), Hit):
            return self._reuse(stage, found)
        with self.store.lock(kind, fingerprint, lambda text: self._tell(stage, "waiting", text), self._pause) as lock:
            again = self.store.lookup(kind, fingerprint, lock)
            if may_reuse and isinstance(again, Hit):
                return self._reuse(stage, again)
            self._tell(stage, "building", "--rebuild" if isinstance(again, Hit) else again.reason)
            return self._build(stage, lock)

    def _tell(self, stage: PlannedStage, kind: EventKind, text: str = "") -> None:
        self.listen(Event(stage.name, kind, text))

    def _pause(self, seconds: float) -> None:
        """Sleep, but not through a cancellation."""
        if self.stop.wait(seconds):
            raise Stopped

    def _reuse(self, stage: PlannedStage, hit: Hit) -> Built:
        if hit.has_drifted(code_hash(stage.spec.stage)):
            text = f"was built by other code and is kept; --rebuild {stage.name} builds it anew"
            self._tell(stage, "drifted", text)
        self._tell(stage, "cached")
        return _built(stage, hit, cached=True, wall_s=0.0)

    def _build(self, stage: PlannedStage, lock: Lock) -> Built:
        job, resources = job_of(stage, self.store, self.num_cpus), stage.spec.resources
        self._watch(stage, job, self._found(stage, job) or self._started(stage, job))
        started, wall_s = _times(job)
        hit = self.store.publish(
            lock,
            identity=stage.identity,
            code=read_json(job.directory / "config.json")["code"],
            provenance=read_json(job.directory / PROVENANCE),
            started_at=started,
            wall_s=wall_s,
            gpu_s=wall_s * resources.gpus * resources.nodes,
        )
        self._tell(stage, "built")
        return _built(stage, hit, cached=False, wall_s=wall_s)

    def _found(self, stage: PlannedStage, job: Job) -> RunningJob | None:
        """The job as a flow that died left it, running or finished; ended and forgotten when it is to be rebuilt."""
        found = self.launcher.find(job)
        if found is None:
            return None
        if stage.name in self.rebuild - self._begun:
            found.cancel()
            return None
        has_lost_its_work = found.poll() is not None and not (job.directory / PROVENANCE).is_file()
        return None if has_lost_its_work else found

    def _started(self, stage: PlannedStage, job: Job) -> RunningJob:
        kind = stage.spec.stage
        fresh = stage.name in self.rebuild and stage.name not in self._begun
        self._begun.add(stage.name)
        staging = self.store.staging(kind.name, stage.fingerprint, fresh=fresh)
        config = {
            "stage": kind.name,
            "fingerprint": stage.fingerprint,
            "code": code_hash(kind),  # now: by the time of publication somebody may have edited it
            "config": stage.spec.config.model_dump(mode="json"),
            "inputs": stage.input_paths(self.store, self.plan),
            "run": self._describe_run(kind),
        }
        with disk_errors(self.store.root):
            (staging / STATUS).unlink(missing_ok=True)
            write_json(staging / "config.json", config)
            return self.launcher.start(job)

    def _describe_run(self, kind: Stage) -> dict[str, Any]:
        """The run as far as it has come; for a stage that takes all artifacts, the report, with the other seeds."""
        run = self.run_of()
        description = run.model_dump(mode="json", by_alias=True)
        takes_all = any(one.every for one in kind.inputs.values())
        return description | ({"siblings": find_siblings(self.store, run)} if takes_all else {})

    def _watch(self, stage: PlannedStage, job: Job, running: RunningJob) -> None:
        """Follow the job to its end; whatever interrupts this thread, the job's processes end too."""
        try:
            while (end := running.poll()) is None:
                self.listen(Event(stage.name, "running", progress=_read_progress(job.directory)))
                self._pause(POLL_EVERY_S)
        except BaseException:  # stopped, or an interrupt that reached this thread
            running.cancel()
            self._tell(stage, "stopped")
            raise
        if end.exit_code:
            self._tell(stage, "failed")
            raise StageFailed(stage.name, end, job.directory)


def cores_per_stage(jobs: int) -> int:
    """Each stage's share of the cores that this process may use, when `jobs` stages run at a time."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, num_cores // jobs)


def job_of(stage: PlannedStage, store: Store, num_cpus: int | None = None) -> Job:
    """The job that builds `stage`. Cores: the recipe's word, else the user's OMP_NUM_THREADS, else `num_cpus`."""
    resources, kind = stage.spec.resources, stage.spec.stage.name
    share = None if "OMP_NUM_THREADS" in os.environ else num_cpus
    return Job(kind, store.staging_path(kind, stage.fingerprint), max(1, resources.gpus), resources.cpus or share)


def _built(stage: PlannedStage, hit: Hit, *, cached: bool, wall_s: float) -> Built:
    kind = stage.spec.stage.name
    return Built(stage.name, kind, stage.fingerprint, hit.path, cached, wall_s, dict(hit.record.metrics))


def _times(job: Job) -> tuple[str, float]:
    """When the job's process started (ISO 8601, UTC) and how many seconds it took, by its own clock."""
    started, ended = (float(str(read_status(job.directory)[key])) for key in ("started_at", "ended_at"))
    return datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"), ended - started


def _read_progress(directory: Path) -> dict[str, Any] | None:
    try:
        progress: dict[str, Any] = read_json(directory / "progress.json")
        return progress
    except (OSError, json.JSONDecodeError):
        return None
