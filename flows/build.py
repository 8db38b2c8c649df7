"""Build one stage: look it up, lock it, stage it, launch it, watch it, publish it."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.plan import Plan, PlannedStage
from slurm.job import USER_ERROR, End, Job, Launcher, log_tail
from tasks.core.errors import UserError
from tasks.core.files import read_json, write_json
from tasks.core.store import Hit, Lock, Run, Store, code_hash

POLL_EVERY_S = 0.2


@dataclass(frozen=True)
class Event:
    """Something to show while a stage is built: `progress` is what the stage wrote into progress.json."""

    name: str
    kind: str
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

    def describe(self) -> str:
        """One paragraph, then the log's path and, unless the paragraph says it all, the log's tail."""
        text = f"stage {self.stage_name} failed: {self.end.error}\nlog: {self.directory / 'log.txt'}"
        return text if self.end.exit_code == USER_ERROR else f"{text}\n{log_tail(self.directory)}"


class Stopped(Exception):
    """The run was cancelled while this stage was being built; what it had done is kept for the next run."""


@dataclass(frozen=True)
class Builder:
    """Builds the stages of one plan in one store with one launcher.

    Setting `stop` ends every job that runs, from whichever thread.
    """

    plan: Plan
    store: Store
    launcher: Launcher
    run_of: Callable[[], Run]
    listen: Listener
    rebuild: frozenset[str] = frozenset()
    num_cpus: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def build(self, stage: PlannedStage) -> Built:
        """The artifact of `stage`, from the store or newly built.

        Raises StageFailed, and UserError for trouble with the store.
        """
        kind, fingerprint = stage.spec.stage.name, stage.fingerprint
        found = self.store.lookup(kind, fingerprint)
        if isinstance(found, Hit) and stage.name not in self.rebuild:
            return self._reuse(stage, found)
        with self.store.lock(kind, fingerprint, lambda text: self.listen(Event(stage.name, "waiting", text))) as lock:
            again = self.store.lookup(kind, fingerprint, lock)
            if isinstance(again, Hit) and stage.name not in self.rebuild:
                return self._reuse(stage, again)
            reason = "--rebuild" if isinstance(again, Hit) else again.reason
            self.listen(Event(stage.name, "building", reason))
            return self._build(stage, lock)

    def _reuse(self, stage: PlannedStage, hit: Hit) -> Built:
        if hit.has_drifted(code_hash(stage.spec.stage)):
            text = f"was built by other code and is kept; --rebuild {stage.name} builds it anew"
            self.listen(Event(stage.name, "drifted", text))
        self.listen(Event(stage.name, "cached"))
        return _built(stage, hit, cached=True, wall_s=0.0)

    def _build(self, stage: PlannedStage, lock: Lock) -> Built:
        kind = stage.spec.stage
        staging = self.store.staging(kind.name, stage.fingerprint, fresh=stage.name in self.rebuild)
        write_json(
            staging / "config.json",
            {
                "stage": kind.name,
                "fingerprint": stage.fingerprint,
                "config": stage.spec.config.model_dump(mode="json"),
                "inputs": stage.input_paths(self.store, self.plan),
                "run": self.run_of().model_dump(mode="json", by_alias=True),
            },
        )
        started_at, started = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        resources = stage.spec.resources
        job = Job(kind.name, staging, max(1, resources.gpus), resources.cpus or self.num_cpus)
        self._run(stage, job)
        wall_s = time.monotonic() - started
        hit = self.store.publish(
            lock,
            identity=stage.identity,
            code=code_hash(kind),
            provenance=read_json(staging / "work" / "provenance.json"),
            started_at=started_at,
            wall_s=wall_s,
            gpu_s=wall_s * resources.gpus * resources.nodes,
        )
        self.listen(Event(stage.name, "built"))
        return _built(stage, hit, cached=False, wall_s=wall_s)

    def _run(self, stage: PlannedStage, job: Job) -> None:
        """Run the job to its end; whatever interrupts this thread, the job's processes end too."""
        running = self.launcher.start(job)
        try:
            while (end := running.poll()) is None:
                if self.stop.is_set():
                    raise Stopped(stage.name)
                self.listen(Event(stage.name, "running", progress=_read_progress(job.directory)))
                time.sleep(POLL_EVERY_S)
        except BaseException:  # stopped, or an interrupt that reached this thread
            running.cancel()
            raise
        if end.exit_code:
            self.listen(Event(stage.name, "failed", end.error))
            raise StageFailed(stage.name, end, job.directory)


def _built(stage: PlannedStage, hit: Hit, *, cached: bool, wall_s: float) -> Built:
    kind = stage.spec.stage.name
    return Built(stage.name, kind, stage.fingerprint, hit.path, cached, wall_s, dict(hit.record.metrics))


def _read_progress(directory: Path) -> dict[str, Any] | None:
    try:
        progress: dict[str, Any] = read_json(directory / "progress.json")
        return progress
    except (OSError, json.JSONDecodeError):
        return None


def refuse_unknown_stages(plan: Plan, names: frozenset[str]) -> None:
    """Raise UserError when --rebuild names a stage that the recipe does not have."""
    known = [stage.name for stage in plan.stages]
    for name in sorted(names - set(known)):
        raise UserError(f"--rebuild {name}: the recipe has no such stage; it has {', '.join(known)}.")
