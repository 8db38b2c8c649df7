"""Give disk space back: what no kept run references goes, and nothing that anybody builds or uses now."""

import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tasks.core.store.contents import size_of
from tasks.core.store.disk import disk_errors
from tasks.core.store.lock import is_held
from tasks.core.store.record import DamagedRecord, read_record
from tasks.core.store.runs import Run
from tasks.core.store.store import Store

DAY_S = 86400.0
STAGING_DAYS = 7.0


@dataclass(frozen=True)
class Removed:
    """One thing that gc removed, or would: where it was, how much it held, why."""

    path: Path
    size_bytes: int
    reason: str


def gc(store: Store, *, keep_runs: int, dry_run: bool, staging_days: float = STAGING_DAYS) -> list[Removed]:
    """Keep the newest `keep_runs` runs and every artifact that they reference, at any depth; remove the rest.

    A run that says "running" is kept too while it is younger than `staging_days` or one of its stages is locked.
    Interrupted builds, and damaged or replaced artifacts set aside, go when older than `staging_days` and not locked.
    Raises UserError when a run file is damaged: what it references is unknown then, and nothing is removed.
    """
    if keep_runs < 0 or staging_days < 0:
        raise ValueError(f"keep_runs={keep_runs} and staging_days={staging_days} must not be negative")
    runs = store.runs()
    kept = [run for rank, run in enumerate(runs) if rank < keep_runs or _is_live(store, run, staging_days)]
    garbage = [
        *_unreferenced(store, kept),
        *((store.root / "runs" / run.run_id, "an older run") for run in runs if run not in kept),
        *_leftovers(store, staging_days),
    ]
    removed = [Removed(path, size_of(path), reason) for path, reason in garbage]
    if not dry_run:
        with disk_errors(store.root):
            for one in removed:
                _remove(store, one.path)
    return removed


def _unreferenced(store: Store, kept: list[Run]) -> Iterator[tuple[Path, str]]:
    by_fingerprint = {path.name: path for path in store.artifacts()}
    waiting = [stage.fingerprint for run in kept for stage in run.stages]
    needed: set[str] = set()
    while waiting:
        fingerprint = waiting.pop()
        if fingerprint not in needed:
            needed.add(fingerprint)
            waiting.extend(_inputs(by_fingerprint.get(fingerprint)))
    for fingerprint, path in by_fingerprint.items():
        if fingerprint not in needed and not is_held(store.root, f"{path.parent.name}-{fingerprint}"):
            yield path, "no kept run uses it"


def _inputs(path: Path | None) -> list[str]:
    try:
        return [] if path is None else list(read_record(path).input_fingerprints.values())
    except DamagedRecord:
        return []


def _leftovers(store: Store, staging_days: float) -> Iterator[tuple[Path, str]]:
    for path in sorted((store.root / ".staging").glob("*")):
        if _age_days(path) > staging_days and not is_held(store.root, path.name):
            yield path, f"interrupted {_age_days(path):.0f} days ago"
    for kind in (".damaged", ".replaced"):
        for path in sorted((store.root / kind).glob("*")):
            if _age_days(path) > staging_days:
                yield path, f"set aside as {kind[1:]} {_age_days(path):.0f} days ago"
    for path in sorted((store.root / ".trash").glob("*")):
        yield path, "left by an earlier gc"
    for path in sorted((store.root / ".locks").glob("*.claim")):
        if _age_days(path) > 1:
            yield path, "left by a killed process"


def _age_days(path: Path) -> float:
    """Days since anything at the top of `path` was written (status.json and progress.json are, all through a build)."""
    times = [path.lstat().st_mtime, path.lstat().st_ctime, *(child.lstat().st_mtime for child in path.glob("*"))]
    return (time.time() - max(times)) / DAY_S


def _is_live(store: Store, run: Run, staging_days: float) -> bool:
    if run.state != "running":
        return False
    age_days = (time.time() - datetime.fromisoformat(run.started_at).timestamp()) / DAY_S
    return age_days < staging_days or any(is_held(store.root, f"{one.stage}-{one.fingerprint}") for one in run.stages)


def _remove(store: Store, path: Path) -> None:
    """Move aside in one step, then delete: a kill half-way leaves trash, never half an artifact."""
    trash = store.root / ".trash" / f"{path.name}-{uuid.uuid4().hex[:8]}"
    trash.parent.mkdir(parents=True, exist_ok=True)
    path.rename(trash)
    shutil.rmtree(trash)
