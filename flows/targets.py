"""Reads targets: what a recipe's evaluation is to reach, published by whom, measured on how many questions.

Each row of recipes/targets.yaml, or of a file of your own, is one number. Nothing in it is a tolerance: how far a
night's score may lie from the value follows from the sampling errors of both (tasks/core/sequential.py).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flows.recipe_checks import checked
from flows.recipe_yaml import Document, read_document
from flows.schema import model_schema
from tasks.core.sequential import Target

TARGETS = Path(__file__).parent.parent / "recipes" / "targets.yaml"


class TargetRow(BaseModel):
    """One number to reach."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    recipe: str
    """The recipe's name, or the path of one of your own."""
    stage: str
    """The name of an evaluate stage in it."""
    metric: Literal["accuracy"] = "accuracy"
    """What of its metrics.json: accuracy, the mean over samples and questions."""
    value: float = Field(ge=0, le=1)
    """The published value, as a share: 0.5 for 50 %."""
    num_questions: int | None = Field(default=None, ge=1)
    """Questions it was measured on. Where neither it nor the error is known, no night can pass or be called regressed,
    only be shown beside the value."""
    num_samples: int = Field(default=1, ge=1)
    """Samples of each question, of which the published value is the mean."""
    standard_error: float | None = Field(default=None, ge=0, le=1)
    """Of the published value, where its source gives one; else it follows from the two numbers above."""
    fixed_questions: bool
    """true: a benchmark whose questions are always the same (AIME, MATH-500), so only the sampling of answers makes an
    error; false: questions drawn anew (Countdown), here and there."""
    seed: int | None = None
    """The recipe's seed that the value belongs to, such as one's own earlier score; it is judged on no other."""
    source: str = Field(pattern=r"\S")
    """The paper, model card, post or RESULTS.md section that the value is from."""

    @model_validator(mode="after")
    def _error_is_of_something(self) -> Self:
        if self.standard_error == 0:
            raise ValueError("standard_error is 0, but every measured value has an error: give it, or leave it out")
        return self

    @property
    def target(self) -> Target | None:
        """The value with its standard error; None where that is not known.

        From questions and samples it is the binomial one: of questions x samples draws where the questions are fixed,
        which is at least the true one, else of the questions alone, as if the samples of one always agreed.
        """
        if self.standard_error is not None:
            return Target(self.value, self.standard_error)
        if self.num_questions is None:
            return None
        draws = self.num_questions * (self.num_samples if self.fixed_questions else 1)
        share = (self.value * draws + 0.5) / (draws + 1)  # never certain, also of 0 or 1
        return Target(self.value, math.sqrt(share * (1 - share) / draws))

    @property
    def name(self) -> str:
        """recipe:stage, for messages."""
        return f"{self.recipe}:{self.stage}"


def load_targets(path: Path | None = None) -> list[TargetRow]:
    """The rows of `path`, else of recipes/targets.yaml. Raises UserError that lists up to five mistakes."""
    document = read_document(path or TARGETS, noun="file of targets", needs="targets")
    rows = document.values.get("targets")
    for key in document.values.keys() - {"targets"}:
        document.mistake((key,), "is not a key of a file of targets; allowed: targets")
    if not isinstance(rows, list) or not rows:
        document.mistake(("targets",), "should be a list of at least one row: - {recipe: ..., stage: ..., value: ...}")
        rows = []
    read = [_row(document, index, row) for index, row in enumerate(rows)]
    _refuse_twins(document, read)
    document.raise_mistakes()
    return [row for row in read if row is not None]


def _row(document: Document, index: int, row: Any) -> TargetRow | None:
    path = ("targets", index)
    if not isinstance(row, dict):
        document.mistake(path, "should be a mapping: {recipe: ..., stage: ..., value: ..., source: ...}")
        return None
    return checked(document, path, TargetRow, row, model_schema(TargetRow), "a target")


def _refuse_twins(document: Document, rows: Sequence[TargetRow | None]) -> None:
    first: dict[tuple[str, str, float], int] = {}
    for index, row in enumerate(rows):
        if row is None:
            continue
        key = (row.recipe, row.stage, row.value)
        if key in first:
            document.mistake(("targets", index), f"says the same as row {first[key] + 1}: keep one of them")
        first.setdefault(key, index)
