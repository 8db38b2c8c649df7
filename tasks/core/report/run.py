"""A run as the report sees it: its steps in order, each with its record and metrics, whatever may be missing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.files import read_json

REPORT_STAGE = "report"


@dataclass(frozen=True)
class Step:
    """One stage of the run under the name that the recipe gives it ("sft"), with what its artifact says of itself.

    `wall_s` is the time that this run spent on it, `built_in_s` the time that whoever built it spent; either may be
    unknown. `inputs` are the names of the steps that it reads. `directory` is None when the run made no artifact.
    """

    name: str
    stage: str
    state: str
    fingerprint: str
    wall_s: float | None
    inputs: tuple[str, ...]
    directory: Path | None
    record: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def built_in_s(self) -> float | None:
        """Wall seconds of the build that made the artifact."""
        return as_number(as_dict(self.record.get("provenance")).get("wall_s"))

    @property
    def identity_config(self) -> dict[str, Any]:
        """The scientific config that the fingerprint covers."""
        return as_dict(as_dict(self.record.get("identity")).get("config"))

    def file(self, name: str) -> Path | None:
        """The path of a file of the artifact, None when it is not there."""
        path = self.directory / name if self.directory else None
        return path if path and path.is_file() else None


@dataclass(frozen=True)
class Run:
    """The run and its steps in order. `notes` collects, in plain words, what could not be read or shown."""

    description: dict[str, Any]
    steps: tuple[Step, ...]
    notes: list[str] = field(default_factory=list)

    def of_stage(self, stage: str) -> list[Step]:
        """The steps of one stage that have an artifact, in the run's order."""
        return [step for step in self.steps if step.stage == stage and step.directory]


def load_run(out: Path, artifacts: Mapping[str, Path]) -> Run:
    """Read OUT/config.json's "run" and each artifact's record.json.

    An artifact that the run's list does not name becomes a step of its own, so the report also works without a run.
    Raises UserError when an artifact's directory does not exist or its record.json is not JSON.
    """
    config_path = out / "config.json"
    description = as_dict(as_dict(read_json(config_path)).get("run")) if config_path.is_file() else {}
    notes: list[str] = []
    records = {name: _read_record(name, directory, notes) for name, directory in artifacts.items()}
    names_by_fingerprint = {str(record.get("fingerprint")): name for name, record in records.items()}
    rows = [as_dict(row) for row in description.get("stages") or []]
    listed = {str(row.get("name")) for row in rows}
    rows += [{"name": name} for name in artifacts if name not in listed]
    steps = []
    for row in rows:
        name = str(row.get("name"))
        record = records.get(name, {})
        stage = str(row.get("stage") or record.get("stage") or name)
        if stage == REPORT_STAGE:
            continue  # this page: its own row is still "pending" while it is being written
        steps.append(_make_step(name, stage, row, record, artifacts.get(name), names_by_fingerprint))
    return Run(description, tuple(steps), notes)


def _make_step(
    name: str,
    stage: str,
    row: dict[str, Any],
    record: dict[str, Any],
    directory: Path | None,
    names_by_fingerprint: Mapping[str, str],
) -> Step:
    inputs = _input_names(row["inputs"]) if "inputs" in row else _inputs_of_record(record, names_by_fingerprint)
    return Step(
        name=name,
        stage=stage,
        state=str(row.get("state") or ("present" if directory else "missing")),
        fingerprint=str(row.get("fingerprint") or record.get("fingerprint") or ""),
        wall_s=as_number(row.get("wall_s")),
        inputs=inputs,
        directory=directory,
        record=record,
        metrics=as_dict(record.get("metrics")) or _read_metrics(directory),
    )


def _read_record(name: str, directory: Path, notes: list[str]) -> dict[str, Any]:
    if not directory.is_dir():
        raise UserError(f"The artifact of {name!r}, {directory}, is not a directory: run the recipe again to build it.")
    path = directory / "record.json"
    if not path.is_file():
        notes.append(f"{name}: the artifact has no record.json, so its provenance is unknown.")
        return {}
    try:
        return as_dict(read_json(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not JSON ({error}): the artifact of {name!r} is damaged; build it again."
        ) from error


def _read_metrics(directory: Path | None) -> dict[str, Any]:
    path = directory / "metrics.json" if directory else None
    return as_dict(read_json(path)) if path and path.is_file() else {}


def _input_names(inputs: Any) -> tuple[str, ...]:
    """Flatten {input: step name, or a list or dict of step names} into step names, each once, in order."""
    names: list[str] = []
    for value in as_dict(inputs).values():
        names += [value] if isinstance(value, str) else [str(name) for name in value or []]
    return tuple(dict.fromkeys(names))


def _inputs_of_record(record: dict[str, Any], names_by_fingerprint: Mapping[str, str]) -> tuple[str, ...]:
    names: list[str] = []
    for value in as_dict(as_dict(record.get("identity")).get("inputs")).values():
        fingerprints = value.values() if isinstance(value, dict) else [value]
        names += [names_by_fingerprint[one] for one in fingerprints if one in names_by_fingerprint]
    return tuple(dict.fromkeys(names))


def as_dict(value: Any) -> dict[str, Any]:
    """`value` when it is a dict, else an empty one: a hand-made or older record must not break the page."""
    return value if isinstance(value, dict) else {}


def as_number(value: Any) -> float | None:
    """`value` as a float when it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = float(value)
    return number if abs(number) < float("inf") else None
