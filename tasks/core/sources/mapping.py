"""From a row of a file or a table to a problem: which columns are what, and which rows cannot be used.

A row is wrong when its text cannot be published (NUL, half of a surrogate pair, longer than MAX_CHARS) or a condition
of the recipe leaves it out: it gets a flaw. A column is wrong when it is missing or holds another type: a UserError.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Generic

from tasks.core.errors import UserError
from tasks.core.sources.config import HubSource, LocalSource, ModelScopeSource
from tasks.core.sources.math23k import plain_gold
from tasks.core.sources.places import Scalar, Taken
from tasks.core.sources.rows import PoolRow, Record, Records, Row, chat, flawed, folded
from tasks.core.spelling import nearest

TASK = "math"
MAX_CHARS = 1_000_000
MAX_VALUES_SHOWN = 12

Where = tuple[str, int]  # a file or table, and the number of the row in it


class Table(ABC, Generic[Row]):
    """The columns of one source, and the rows that its conditions take: a `rows.Mapping` but for what a row becomes."""

    def __init__(self, source: Taken, columns: Sequence["Column"]) -> None:
        self.columns = columns
        self.conditions = [
            *(Condition(name, values, keep=True) for name, values in (source.keep_where or {}).items()),
            *(Condition(name, values, keep=False) for name, values in (source.drop_where or {}).items()),
        ]
        self.num_taken = 0

    def heads(self, columns: list[str], place: str) -> list[str]:
        """The top-level columns that are needed. Raises UserError when one is missing."""
        needed = [*self.columns, *(condition.column for condition in self.conditions)]
        return list(dict.fromkeys(column.head(columns, f"{place} has") for column in needed))

    def rows(self, some: Records) -> list[Row]:
        """A row for each record. Raises UserError for a column that is missing or of a wrong type."""
        return [self._taken(record, (some.place, some.first + i)) for i, record in enumerate(some.records)]

    def check_conditions(self, place: str) -> None:
        """To be called after the last row. Raises UserError when the conditions left none: a value is misspelt."""
        if self.num_taken or not self.conditions:
            return
        seen = "; ".join(f"{one.column.name} holds {one.values_seen()}" for one in self.conditions)
        raise UserError(f"{place}: keep_where and drop_where leave no row: {seen}.")

    def _taken(self, record: Record, place: Where) -> Row:
        for condition in self.conditions:
            if flaw := condition.flaw(record, place):
                return self.flawed(flaw)
        self.num_taken += 1
        return self.row(record, place)

    @abstractmethod
    def row(self, record: Record, place: Where) -> Row:
        """What the record is."""

    @abstractmethod
    def flawed(self, flaw: str) -> Row:
        """A row that cannot be used."""


class MathTable(Table[PoolRow]):
    """Questions with a gold answer."""

    def __init__(self, source: LocalSource | HubSource | ModelScopeSource) -> None:
        assert source.question_column is not None and source.answer_column is not None
        self.source = source
        self.question = Column(source.question_column, "question_column")
        self.answer = Column(source.answer_column, "answer_column")
        self.topic = None if source.topic_column is None else Column(source.topic_column, "topic_column")
        super().__init__(source, [self.question, self.answer, *([self.topic] if self.topic else [])])

    def flawed(self, flaw: str) -> PoolRow:
        """A row that cannot be used."""
        return flawed(TASK, flaw)

    def row(self, record: Record, place: Where) -> PoolRow:
        """The problem, or why there is none."""
        question = self.question.value(record, place)
        if not isinstance(question, str | None):
            raise self.question.wrong(question, place, "not text: name the column that holds the question's text")
        question, answer = question or "", self._gold(self.answer.value(record, place), place)
        topic = None if self.topic is None else as_text(self.topic.value(record, place), self.topic, place)
        for name, text in (("question", question), ("answer", answer), ("topic", topic or "")):
            if flaw := flaw_of(text):
                return flawed(TASK, f"{name} {flaw}")
        prompt = chat(self.source.system_prompt, question)
        return PoolRow(TASK, question, answer, topic, prompt, folded(question))

    def _gold(self, answer: Any, place: Where) -> str:
        """The gold's text, empty when it is missing."""
        text = as_text(answer, self.answer, place) or ""
        if self.source.answer_after is not None:
            _, mark, gold = text.rpartition(self.source.answer_after)
            text = gold if mark else ""
        text = text.strip()
        return plain_gold(text) if self.source.answer_format == "math23k" else text


class Column:
    """A column by its name or by a path such as prompt.0.value; `key` is the recipe's key for it."""

    def __init__(self, name: str, key: str) -> None:
        self.name, self.key = name, key
        self.first, *self.path = name.split(".")

    def head(self, columns: Iterable[str], place_has: str) -> str:
        """The top-level column that is meant. Raises UserError when there is none."""
        present = list(columns)
        for name in (self.name, self.first):
            if name in present:
                return name
        names = ", ".join(sorted(map(str, present))) or "none"
        hint = nearest(self.name, map(str, present))
        raise UserError(f"{place_has} no column {self.name!r} ({self.key}); it has {names}{hint}.")

    def value(self, record: Record, place: Where) -> Any:
        """What the record holds there; None when a list is too short or a value on the way is null."""
        if self.name in record:
            return record[self.name]
        value = record[self.head(record, f"{place[0]}, row {place[1]}, has")]
        for step in self.path:
            if value is None:
                return None
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif isinstance(value, list) and step.isdecimal():
                value = value[int(step)] if int(step) < len(value) else None
            else:
                raise self._no_step(step, value, place)
        return value

    def wrong(self, value: Any, place: Where, complaint: str) -> UserError:
        """The error for a value of the wrong type."""
        kind = type(value).__name__
        more = _ways_into(self.name, value)
        return UserError(f"{place[0]}, row {place[1]}: {self.name} is a {kind}, {complaint} as {self.key}{more}.")

    def _no_step(self, step: str, value: Any, place: Where) -> UserError:
        has = f"has the keys {', '.join(value)}" if isinstance(value, dict) else f"is a {type(value).__name__}"
        hint = nearest(step, value) if isinstance(value, dict) else ""
        where = f"{place[0]}, row {place[1]}: {self.name} ({self.key})"
        return UserError(f"{where} has no step {step!r}: what stands there {has}{hint}.")


class Condition:
    """Rows whose column holds one of `values` are kept, or dropped."""

    def __init__(self, name: str, values: tuple[Scalar, ...], *, keep: bool) -> None:
        self.keep, self.key = keep, "keep_where" if keep else "drop_where"
        self.column = Column(name, self.key)
        self.values = frozenset(map(_typed, values))
        self.seen: dict[Any, None] = {}

    def flaw(self, record: Record, place: Where) -> str | None:
        """Why the record is left out, if it is. Raises UserError for lists and objects, which cannot be compared."""
        value = self.column.value(record, place)
        if isinstance(value, list | dict):
            raise self.column.wrong(value, place, "which cannot be compared: name a column of text or numbers")
        if len(self.seen) < MAX_VALUES_SHOWN:
            self.seen[_typed(value)] = None
        return None if (_typed(value) in self.values) == self.keep else f"{self.key}: {self.column.name} is {value!r}"

    def values_seen(self) -> str:
        """The first values of the column, for a message."""
        more = ", …" if len(self.seen) == MAX_VALUES_SHOWN else ""
        return ", ".join(repr(value) for _, value in self.seen) + more


def flaw_of(text: str) -> str | None:
    """Why a text cannot be published, or None."""
    if len(text) > MAX_CHARS:
        return f"is longer than {MAX_CHARS:,} characters"
    if "\0" in text:
        return "holds a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "holds half of a surrogate pair, which UTF-8 cannot hold"
    return None


def as_text(value: Any, column: Column, place: Where) -> str | None:
    """Text, or a number written out without an exponent, which would read as a product with e; None when missing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise column.wrong(value, place, "neither text nor a number: name another column, or make one,")
    if isinstance(value, float) and math.isnan(value):
        return None  # how tables write a missing number
    return str(value) if isinstance(value, int) else format(Decimal(str(value)), "f")


def _typed(value: Any) -> tuple[bool, Any]:
    """The value so that true is not 1."""
    return isinstance(value, bool), value


def _ways_into(name: str, value: Any) -> str:
    """A path that leads into a nested value, for a message."""
    path = name
    while isinstance(value, dict | list) and value:
        step = next(iter(value)) if isinstance(value, dict) else 0
        path, value = f"{path}.{step}", value[step]
    return f"; a path such as {path} leads into it" if path != name else ""
