"""The artifact store: look an artifact up and believe it only when it is whole; build it once; publish it at once.

A builder goes: lookup → lock → lookup again with the lock → staging → run the stage there → publish.

    <store>/<stage>/<fingerprint>/             published: the stage's files and record.json
    <store>/.staging/<stage>-<fingerprint>/    being built, or interrupted and waiting to be resumed
    <store>/.locks/                            who builds what
    <store>/.damaged/, .replaced/              what a new artifact took the place of; gc removes it after some days
    <store>/runs/<run_id>/run.json             which run used which artifacts
"""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.files import read_json
from tasks.core.store import contents
from tasks.core.store.disk import disk_errors
from tasks.core.store.fingerprint import fingerprint_of
from tasks.core.store.lock import Lock
from tasks.core.store.record import (
    RECORD,
    DamagedRecord,
    FileEntry,
    Provenance,
    Record,
    finite,
    read_record,
    write_record,
)
from tasks.core.store.redact import redact
from tasks.core.store.runs import Run, read_run, read_runs, readable_runs, write_run

DEFAULT_ROOT = "artifacts"
MAX_PROBLEMS_SHOWN = 3


@dataclass(frozen=True)
class Hit:
    """A published artifact whose every byte was just checked."""

    path: Path
    record: Record

    def has_drifted(self, code: str) -> bool:
        """Whether the stage's code now (`code_hash(stage)`) differs from the code that built this."""
        return self.record.code != code


@dataclass(frozen=True)
class Miss:
    """No artifact to believe. `reason` is a short clause; `damaged` when there is one but it cannot be used."""

    reason: str
    damaged: bool = False


def store_root(option: str | Path | None = None) -> Path:
    """Where the store is: the --store option, else $R1_STORE, else ./artifacts."""
    return Path(option or os.environ.get("R1_STORE") or DEFAULT_ROOT).absolute()


class Store:
    """The artifacts below one directory, which is created when the first thing is built."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, stage_name: str, fingerprint: str) -> Path:
        """Where the artifact is, or would be."""
        return self.root / stage_name / fingerprint

    def staging_path(self, stage_name: str, fingerprint: str) -> Path:
        """Where it is built. It exists while it is being built and after an interruption."""
        return self.root / ".staging" / f"{stage_name}-{fingerprint}"

    def lookup(self, stage_name: str, fingerprint: str, lock: Lock | None = None) -> Hit | Miss:
        """The artifact, when it is there and undamaged: every file is read and its sha256 compared.

        With the artifact's `lock` in hand, a build that was killed after its record was written and before it was
        renamed is published first, so that not even the last second of a build is done twice.
        """
        with disk_errors(self.root):
            found = _examine(self.path(stage_name, fingerprint), fingerprint)
            if isinstance(found, Miss) and lock is not None:
                found = self._finish_publishing(lock, stage_name, fingerprint) or found
        return found

    def glance(self, stage_name: str, fingerprint: str) -> Hit | Miss:
        """What `lookup` will probably say, from the record and the sizes alone: to show a plan, not to build."""
        with disk_errors(self.root):
            return _examine(self.path(stage_name, fingerprint), fingerprint, contents.find_torn)

    def lock(
        self, stage_name: str, fingerprint: str, on_wait: Callable[[str], None] = print,
        pause: Callable[[float], None] = time.sleep,
    ) -> Lock:  # fmt: skip
        """`with store.lock(…) as lock:` — wait for whoever builds it now, then hold the right to build it."""
        return Lock(self.root, f"{stage_name}-{fingerprint}", on_wait, pause=pause)

    def staging(self, stage_name: str, fingerprint: str, *, fresh: bool = False) -> Path:
        """The directory to build in, with whatever an interrupted build left there; `fresh` throws that away."""
        path = self.staging_path(stage_name, fingerprint)
        with disk_errors(self.root):
            if fresh and path.exists():
                shutil.rmtree(path)
            path.mkdir(parents=True, exist_ok=True)
            (path / RECORD).unlink(missing_ok=True)  # of a publication that came to nothing
        return path

    def publish(
        self, lock: Lock, *, identity: dict[str, Any], code: str, provenance: dict[str, Any], started_at: str,
        wall_s: float, gpu_s: float = 0.0, slurm_jobs: tuple[str, ...] = (),
    ) -> Hit:  # fmt: skip
        """Make the staging directory the artifact of `identity`: all of it at once, or none of it.

        `provenance` is what collect_provenance() returned; metrics come from the stage's metrics.json. work/ is dropped
        only when the record is safe, so that a kill at any moment loses either nothing or just the publishing.
        What lay in the artifact's place is moved to .damaged/ or .replaced/.
        Raises UserError (disk), LockLost, and ValueError when the stage wrote no metrics.json.
        """
        stage_name, fingerprint = identity["stage"], fingerprint_of(identity)
        staging = self.staging_path(stage_name, fingerprint)
        if not (staging / "metrics.json").is_file():
            raise ValueError(f"stage {stage_name} wrote no metrics.json in {staging}")
        with disk_errors(self.root):
            contents.tidy(staging)
            record = Record(
                stage=stage_name,
                version=identity["version"],
                fingerprint=fingerprint,
                identity=identity,
                metrics=redact(finite(read_json(staging / "metrics.json"))),
                files=contents.hash_files(staging, sync=True),
                code=code,
                provenance=Provenance(
                    **provenance, started_at=started_at, wall_s=wall_s, gpu_s=gpu_s, slurm_jobs=list(slurm_jobs)
                ),
            )
            contents.sync_directories(staging)
            write_record(staging, record)
            self._put_in_place(lock, staging, record)
        return Hit(self.path(stage_name, fingerprint), record)

    def artifacts(self) -> Iterator[Path]:
        """Every directory that claims to be an artifact, damaged ones too, in a stable order."""
        for path in sorted(self.root.glob("*/*")):
            if not path.parent.name.startswith(".") and path.parent.name != "runs" and path.is_dir():
                yield path

    def verify(self, path: Path) -> list[str]:
        """Rehash one artifact; what is wrong with it, one line each."""
        try:
            record = _read_checked(path, path.name)
        except DamagedRecord as error:
            return [str(error)]
        return contents.find_damage(path, record.files)

    def write_run(self, run: Run) -> Path:
        """See runs.write_run."""
        return write_run(self.root, run)

    def read_run(self, run_id: str) -> Run:
        """See runs.read_run."""
        return read_run(self.root, run_id)

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        return read_runs(self.root)

    def readable_runs(self) -> list[Run]:
        """See runs.readable_runs."""
        return readable_runs(self.root)

    def _finish_publishing(self, lock: Lock, stage_name: str, fingerprint: str) -> Hit | None:
        staging = self.staging_path(stage_name, fingerprint)
        if not (staging / RECORD).is_file() or isinstance(whole := _examine(staging, fingerprint), Miss):
            return None
        self._put_in_place(lock, staging, whole.record)
        return Hit(self.path(stage_name, fingerprint), whole.record)

    def _put_in_place(self, lock: Lock, staging: Path, record: Record) -> None:
        target = self.path(record.stage, record.fingerprint)
        assert lock.key == staging.name, f"publishing {staging.name} with the lock on {lock.key}"
        lock.check()
        shutil.rmtree(staging / contents.SCRATCH, ignore_errors=True)
        if target.exists():
            kind = ".damaged" if isinstance(_examine(target, record.fingerprint), Miss) else ".replaced"
            aside = self.root / kind / f"{staging.name}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
            aside.parent.mkdir(parents=True, exist_ok=True)
            target.rename(aside)
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(target)
        contents.sync_directory(target.parent)


def check_writable(root: Path) -> None:
    """Raise UserError when nothing can be written below `root`; called before a run so that it fails in a second."""
    with disk_errors(root):
        probe = root / ".locks" / f".probe-{uuid.uuid4().hex}"
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()


def _examine(
    path: Path, fingerprint: str, compare: Callable[[Path, Mapping[str, FileEntry]], list[str]] = contents.find_damage
) -> Hit | Miss:
    if not path.exists():
        return Miss("not built yet")
    try:
        record = _read_checked(path, fingerprint)
    except DamagedRecord as error:
        return Miss(f"the artifact is damaged: {error}", damaged=True)
    if problems := compare(path, record.files):
        more = f" and {len(problems) - MAX_PROBLEMS_SHOWN} more" if len(problems) > MAX_PROBLEMS_SHOWN else ""
        return Miss(f"the artifact is damaged: {'; '.join(problems[:MAX_PROBLEMS_SHOWN])}{more}", damaged=True)
    return Hit(path, record)


def _read_checked(path: Path, fingerprint: str) -> Record:
    record = read_record(path)
    if record.fingerprint != fingerprint:
        raise DamagedRecord(f"{RECORD} is that of {record.stage}/{record.fingerprint}")
    return record
