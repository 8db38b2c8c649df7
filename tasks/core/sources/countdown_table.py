"""Published tables of Countdown problems, such as Jiayi-Pan/Countdown-Tasks-3to4: golds and keys as the generator's."""

import json
from typing import Any

from tasks.core.countdown.problems import Problem
from tasks.core.countdown.prompts import PROMPT_STYLES
from tasks.core.countdown.solver import MAX_NUMBERS, solve
from tasks.core.sources.config import HubSource, LocalSource, ModelScopeSource
from tasks.core.sources.mapping import Column, Table, Where
from tasks.core.sources.rows import PoolRow, Record, flawed

TASK = "countdown"


class CountdownTable(Table[PoolRow]):
    """A column with the numbers, and one with the target."""

    def __init__(self, source: LocalSource | HubSource | ModelScopeSource) -> None:
        assert source.numbers_column is not None and source.target_column is not None and source.prompt is not None
        self.style, self.solvable = PROMPT_STYLES[source.prompt], source.solvable
        self.numbers = Column(source.numbers_column, "numbers_column")
        self.target = Column(source.target_column, "target_column")
        super().__init__(source, [self.numbers, self.target])

    def flawed(self, flaw: str) -> PoolRow:
        """A row that cannot be used."""
        return flawed(TASK, flaw)

    def row(self, record: Record, place: Where) -> PoolRow:
        """The problem, or why there is none."""
        values, wanted = self.numbers.value(record, place), self.target.value(record, place)
        if not isinstance(values, list | None):
            raise self.numbers.wrong(values, place, "not a list of numbers: name the column that holds one")
        if not isinstance(wanted, int | float | None) or isinstance(wanted, bool):
            raise self.target.wrong(wanted, place, "not a number: name the column that holds the target")
        numbers, target = [whole(value) for value in values or []], whole(wanted)
        if len(numbers) < 2 or any(number is None or number < 0 for number in numbers):
            return self.flawed(f"{values!r:.80} is no list of two or more whole numbers from 0 on")
        if target is None:
            return self.flawed(f"the target {wanted!r} is no whole number")
        problem = Problem(tuple(number for number in numbers if number is not None), target)
        if self.solvable == "check" and (flaw := unsolved(problem)):
            return self.flawed(flaw)
        return pool_row(problem, self.style(problem.numbers, problem.target))


def whole(value: Any) -> int | None:
    """The whole number, None for anything else; tables write whole numbers as floats where one is missing."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        return None
    return int(value)


def unsolved(problem: Problem) -> str | None:
    """Why the problem counts as one without a solution, or None."""
    if len(problem.numbers) > MAX_NUMBERS:
        return f"{len(problem.numbers)} numbers, more than the {MAX_NUMBERS} up to which `solvable: check` can tell"
    return None if solve(problem.numbers, problem.target) else "no expression over the numbers has this value"


def pool_row(problem: Problem, prompt: list[dict[str, str]], split: str | None = None) -> PoolRow:
    """The problem as the pool holds it."""
    numbers, target = problem.key
    key = json.dumps([numbers, target])
    return PoolRow(TASK, prompt[-1]["content"], problem.answer, None, prompt, key, None, split)
