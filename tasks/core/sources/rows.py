"""Rows on their way into the pool."""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

Record = dict[str, Any]
Message = dict[str, str]


class PoolRow(NamedTuple):
    """One row of the pool, but for its source and number; the fields are explained in pool.py."""

    task: str
    question: str
    answer: str
    topic: str | None
    prompt: Sequence[Message]
    key: str
    flaw: str | None = None
    split: str | None = None


Row = TypeVar("Row")


class Batch(NamedTuple, Generic[Row]):
    """Some rows of a source, and how much of the source has been read with them, 0 to 1."""

    rows: list[Row]
    fraction_read: float


class Records(NamedTuple):
    """Some rows of a file or table as they are there.

    `place` is the file, for messages; `first` the number of the first row in it; `fraction_read` how much of the file
    has been read with them, 0 to 1.
    """

    records: list[Record]
    place: str
    first: int
    fraction_read: float


class Mapping(Protocol[Row]):
    """The columns of one source and what they mean: what a reader of files asks."""

    def heads(self, columns: list[str], place: str) -> list[str]:
        """The top-level columns that are needed. Raises UserError when one is missing."""

    def rows(self, some: Records) -> list[Row]:
        """A row for each record. Raises UserError for a column that is missing or of a wrong type."""

    def check_conditions(self, place: str) -> None:
        """To be called after the last row. Raises UserError when the conditions left none: a value is misspelt."""


def flawed(task: str, flaw: str) -> PoolRow:
    """A row that cannot be used."""
    return PoolRow(task, "", "", None, (), "", flaw)


def chat(system_prompt: str | None, question: str) -> list[Message]:
    """The question as chat messages."""
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [*system, {"role": "user", "content": question}]


def folded(question: str) -> str:
    """What makes two questions the same problem: their words."""
    return " ".join(question.split())
