"""`nights/<number>.json`: the ledger of the nightly reproductions, a file for every verdict, never changed again.

A file is written whole under another name and then linked to the next free number, which fails when somebody else has
just taken it: so a kill -9 leaves no half entry, two writers lose none, and the order is that of the numbers, whatever
the clock says. The directory is copied, committed and read by people as it is.
"""

import json
import os
import re
import uuid
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.files import write_text
from tasks.core.store.disk import disk_errors
from tasks.core.store.redact import redact

FOLDER = "nights"
_NAME = re.compile(r"(\d{6,})\.json")


class Verdict(StrEnum):
    """What a night says of a target."""

    PASSED = "pass"
    REGRESSED = "regressed"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"


class NightScore(BaseModel):
    """The score of a night with its 95 % interval; `variance` is that of the mean, sampling and runs together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    low: float
    high: float
    num_questions: int
    num_samples: int
    variance: float


class Night(BaseModel):
    """One verdict on one target. Times are ISO 8601, UTC; `number` is given by the ledger, 0 before."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    number: int = 0
    recipe: str
    stage: str
    metric: str
    target: dict[str, Any]
    """The row of the file of targets."""
    verdict: Verdict
    reason: str
    """One sentence that explains the verdict."""
    score: NightScore | None = None
    null: float | None = None
    """The least true score that the target does not rule out."""
    e_values: list[float] = []
    """This night's, one for each bet (tasks/core/sequential.py); none where there was no score or no known error."""
    evidence: float = 0.0
    """Of the detector, after this night."""
    started_at: str
    ended_at: str
    run_id: str | None = None
    seed: int | None = None
    overrides: list[str] = []
    commit: str | None = None
    dirty: bool | None = None
    packages: dict[str, str] = {}
    hardware: dict[str, Any] = {}
    identities: dict[str, Any] = {}
    """By the recipe's stage: what decides its output, but for its inputs."""
    gpu_hours: float = 0.0
    """Of the whole run, as far as it came; verdicts on one run, by `run_id`, share them."""
    cost: float | None = None
    """GPU hours times the price that the nightly was given."""
    num_extra_samples: int = 0
    """Samples of each question that were drawn because the first ones did not decide."""
    changes: list[str] = []
    """Since the last pass of the same target: what a regression may come from."""

    @property
    def name(self) -> str:
        """recipe:stage, the recipe by its name also where it was given as a path."""
        return f"{Path(self.recipe).name.removesuffix('.yaml')}:{self.stage}"


def append_night(store: Path, night: Night) -> Night:
    """Add `night` under the next number; returns it as it was written, with its number and without secrets."""
    folder = store / FOLDER
    with disk_errors(store):
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            number = next_number(store)
            body = redact(night.model_dump(mode="json", by_alias=True) | {"number": number})
            whole = folder / f".{uuid.uuid4().hex}.json"
            write_text(whole, json.dumps(body, ensure_ascii=False, indent=2) + "\n")
            try:
                os.link(whole, folder / f"{number:06d}.json")
            except FileExistsError:
                continue
            finally:
                whole.unlink()
            return Night.model_validate(body)


def next_number(store: Path) -> int:
    """The number that the next night will have, unless somebody else writes one before."""
    return max(_numbers(store / FOLDER), default=0) + 1


def read_nights(store: Path) -> tuple[list[Night], list[str]]:
    """All nights by number, and a sentence for each file that cannot be read, which is then left out."""
    nights, notes = [], []
    for number in sorted(_numbers(store / FOLDER)):
        path = store / FOLDER / f"{number:06d}.json"
        try:
            night = Night.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            first = str(error).splitlines()[0]
            notes.append(f"{path} cannot be read ({first}), so it is left out: restore it from a copy, or delete it.")
            continue
        if night.number == number:
            nights.append(night)
        else:
            notes.append(f"{path} says that it is night {night.number}, so it is left out: give it its own name back.")
    return nights, notes


def _numbers(folder: Path) -> list[int]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [int(found[1]) for name in names if (found := _NAME.fullmatch(name))]
