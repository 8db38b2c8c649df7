"""Build one stage: look it up, lock it, stage it, launch it, watch it, publish it."""

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from flows.plan import Plan, PlannedStage
from flows.siblings import find_nights, find_siblings
from slurm.job import LAUNCH, STATUS, STOP, USER_ERROR, Cause, End, Job, Launcher, RunningJob, log_tail, read_progress
from slurm.queue import NoAnswer
from slurm.submission import SETUP
from tasks.core.attempts import read_attempts, total_seconds, wall_seconds
from tasks.core.errors import UserError
from tasks.core.files import read_json, write_json
from tasks.core.stage import Stage
from tasks.core.store import Hit, Lock, Run, Store, code_hash, disk_errors

POLL_EVERY_S = 0.2
PROVENANCE = Path("work", "provenance.json")  # the stage's process leaves it when it ends well

EventKind = Literal["waiting", "drifted", "warning", "cached", "building", "running", "built", "failed", "stopped"]


@dataclass(frozen=True)
class Event:
    """Something to show while a stage is built: `progress` is what the stage wrote into progress.json.

    The text of "running" says where the job stands, such as its place in Slurm's queue.
    """

    name: str
    kind: EventKind
    text: str = ""
    progress: dict[str, Any] | None = None

    @property
    def place(self) -> str:
        """The text without its numbers: it changes when something has happened, not when time has passed."""
        return re.sub(r"\d+", "", self.text)


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

    Setting `stop` ends every job that runs, from whichever thread; setting `pause` asks them to save and end soon.
    `num_cpus` is each stage's share of the cores.
    """

    plan: Plan
    store: Store
    launcher: Launcher
    run_of: Callable[[], Run]
    listen: Listener
    rebuild: frozenset[str] = frozenset()
    num_cpus: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    pause: threading.Event = field(default_factory=threading.Event)
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

    def _wait(self, stage: PlannedStage, what: str, seconds: float) -> None:
        self.listen(Event(stage.name, "running", what))
        self._pause(seconds)

    def _reuse(self, stage: PlannedStage, hit: Hit) -> Built:
        if hit.has_drifted(code_hash(stage.spec.stage)):
            text = f"was built by other code and is kept; --rebuild {stage.name} builds it anew"
            self._tell(stage, "drifted", text)
        self._tell(stage, "cached")
        return _built(stage, hit, cached=True, wall_s=0.0)

    def _build(self, stage: PlannedStage, lock: Lock) -> Built:
        job, resources = job_of(stage, self.store, self.num_cpus), stage.spec.resources
        self._watch(stage, job, self._found(stage, job) or self._started(stage, job))
        attempts = read_attempts(job.directory)
        wall_s = wall_seconds(job.directory)
        for name in (LAUNCH, SETUP, STOP):  # how it was launched is no part of what came out
            (job.directory / name).unlink(missing_ok=True)
        hit = self.store.publish(
            lock,
            identity=stage.identity,
            code=read_json(job.directory / "config.json")["code"],
            provenance=read_json(job.directory / PROVENANCE),
            started_at=datetime.fromtimestamp(attempts[0].started_at, UTC).isoformat(timespec="seconds"),
            wall_s=wall_s,
            gpu_s=total_seconds(job.directory) * resources.gpus * resources.num_nodes,
            slurm_jobs=tuple(dict.fromkeys(one.slurm_job for one in attempts if one.slurm_job)),
        )
        self._tell(stage, "built")
        return _built(stage, hit, cached=False, wall_s=wall_s)

    def _found(self, stage: PlannedStage, job: Job) -> RunningJob | None:
        """The job as a flow that died left it, running or finished; ended and forgotten when it is to be rebuilt."""
        found = self.launcher.find(job, partial(self._wait, stage))
        if found is None:
            return None
        if stage.name in self.rebuild - self._begun:
            try:
                found.cancel()
            except NoAnswer as error:
                raise UserError(f"stage {stage.name} cannot be rebuilt now. {error}") from error
            return None
        end = found.poll()
        has_lost_its_work = end is not None and end.exit_code == 0 and not (job.directory / PROVENANCE).is_file()
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
            return self.launcher.start(job, partial(self._wait, stage))

    def _describe_run(self, kind: Stage) -> dict[str, Any]:
        """The run as far as it has come; for a stage that takes all artifacts, the report, with the other seeds and
        the recipe's nights."""
        run = self.run_of()
        description = run.model_dump(mode="json", by_alias=True)
        if not kind.takes_all:
            return description
        return description | {"siblings": find_siblings(self.store, run), "nights": find_nights(self.store, run)}

    def _watch(self, stage: PlannedStage, job: Job, running: RunningJob) -> None:
        """Follow the job to its end; whatever interrupts this thread, the job's processes end too."""
        is_told = False
        try:
            while (end := running.poll()) is None:
                if self.pause.is_set() and not is_told:
                    running.pause()
                    is_told = True
                progress = read_progress(job.directory) or None
                self.listen(Event(stage.name, "running", running.note(), progress))
                self._pause(POLL_EVERY_S)
        except BaseException:  # stopped, or an interrupt that reached this thread
            self._end(stage, running)
            raise
        if end.cause == Cause.PAUSED:
            self._tell(stage, "stopped", end.error)
            raise Stopped
        if end.exit_code:
            self._tell(stage, "failed")
            raise StageFailed(stage.name, end, job.directory)

    def _end(self, stage: PlannedStage, running: RunningJob) -> None:
        try:
            running.cancel()
        except NoAnswer as error:
            self._tell(stage, "warning", str(error))
        self._tell(stage, "stopped")


def cores_per_stage(jobs: int) -> int:
    """Each stage's share of the cores that this process may use, when `jobs` stages run at a time."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, num_cores // jobs)


def job_of(stage: PlannedStage, store: Store, num_cpus: int | None = None) -> Job:
    """The job that builds `stage`. Cores: the recipe's word, else the user's OMP_NUM_THREADS, else `num_cpus`."""
    kind = stage.spec.stage.name
    share = None if "OMP_NUM_THREADS" in os.environ else num_cpus
    directory, is_distributed = store.staging_path(kind, stage.fingerprint), stage.spec.stage.is_distributed
    return Job(kind, directory, stage.spec.resources, share, is_distributed=is_distributed)


def _built(stage: PlannedStage, hit: Hit, *, cached: bool, wall_s: float) -> Built:
    kind = stage.spec.stage.name
    return Built(stage.name, kind, stage.fingerprint, hit.path, cached, wall_s, dict(hit.record.metrics))
