"""`record.json`: who an artifact is, what lies in it and where it came from. It is the last file written."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.files import write_text
from tasks.core.store.fingerprint import fingerprint_of

RECORD = "record.json"


class DamagedRecord(Exception):
    """A record that cannot be believed; the message says why in a few words."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class FileEntry(_Frozen):
    """Size in bytes and sha256 (64 hex digits) of one file."""

    size: int
    sha256: str


class Provenance(_Frozen):
    """Where, when and by what the artifact was built; `provenance.py` says how it is found out."""

    git_commit: str | None
    git_dirty: bool | None
    argv: list[str]
    host: str
    python: str
    packages: dict[str, str]
    hardware: dict[str, Any]
    started_at: str
    """ISO 8601, UTC."""
    wall_s: float
    gpu_s: float
    """Wall seconds times GPUs held."""
    slurm_jobs: list[str]


class Record(_Frozen):
    """One artifact. `files` has every file but record.json itself, by path relative to the artifact, with "/"."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    stage: str
    version: int
    fingerprint: str
    identity: dict[str, Any]
    metrics: dict[str, Any]
    files: dict[str, FileEntry]
    code: str
    provenance: Provenance

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    @property
    def input_fingerprints(self) -> dict[str, str]:
        """{"model": fingerprint} for each input; "artifacts.sft" where the input is {stage name: fingerprint}."""
        flat: dict[str, str] = {}
        for name, value in self.identity.get("inputs", {}).items():
            flat |= {name: value} if isinstance(value, str) else {f"{name}.{key}": one for key, one in value.items()}
        return flat


def write_record(directory: Path, record: Record) -> None:
    """Write DIR/record.json whole, sealed with the sha256 of its own content."""
    body = record.model_dump(mode="json", by_alias=True)
    write_text(directory / RECORD, json.dumps(body | {"seal": _seal(body)}, ensure_ascii=False, indent=2) + "\n")


def read_record(directory: Path) -> Record:
    """Read and check DIR/record.json. Raises DamagedRecord when it is missing, torn, edited or of another schema."""
    try:
        body = json.loads((directory / RECORD).read_bytes())
    except FileNotFoundError:
        raise DamagedRecord(f"{RECORD} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedRecord(f"{RECORD} is not JSON ({error})") from None
    if not isinstance(body, dict) or "seal" not in body:
        raise DamagedRecord(f"{RECORD} has no seal")
    if body.pop("seal") != _seal(body):
        raise DamagedRecord(f"{RECORD} does not match its own seal (it was changed after it was written)")
    try:
        record = Record.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedRecord(f"{RECORD}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if fingerprint_of(record.identity) != record.fingerprint:
        raise DamagedRecord(f"{RECORD}: the fingerprint {record.fingerprint} is not that of its identity")
    return record


def finite(value: Any) -> Any:
    """A JSON value with NaN and infinity as null: JSON has neither, and a diverged loss must still be recorded."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list) else value


def _seal(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
