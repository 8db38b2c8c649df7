"""What a policy wrote while it learnt: curves and passages from completions.parquet of a training stage.

DeepSeek-R1 (arXiv:2501.12948, section 2.2.4) tells of an "aha moment", in which the model stops and thinks again. Words
of reflection are counted here so that one can look for it; base models write such words too (Oat-Zero,
arXiv:2503.20783), so compare the start of the curve with its end.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.core.prose import MIXED_FROM, REFLECTION, chinese_share
from tasks.core.report.curves import Curve, read_line
from tasks.core.report.run import as_number

NUM_PASSAGES, AROUND = 6, 160
COLUMNS = ("step", "problem_id", "completion", "verdict")
RIGHT = ("correct", "judge_recovered")


@dataclass(frozen=True)
class Passage:
    """Where a word of reflection stands in a rollout."""

    step: int
    problem_id: str
    verdict: str
    before: str
    word: str
    after: str


@dataclass
class Rollouts:
    """Curves by step, and the first rollout with a word of reflection at evenly spaced steps."""

    curves: list[Curve] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)


@dataclass
class _Step:
    """Counts over the rollouts of one step."""

    num: int = 0
    num_judged: int = 0
    num_right: int = 0
    num_reflecting: int = 0
    num_mixed: int = 0
    num_chinese: int = 0
    first: Passage | None = None

    def add(self, row: dict[str, Any]) -> None:
        """Count one rollout."""
        text = str(row["completion"] or "")
        self.num += 1
        if row["verdict"] is not None:
            self.num_judged += 1
            self.num_right += row["verdict"] in RIGHT
        share = chinese_share(text)
        self.num_chinese += share > 0.5
        self.num_mixed += MIXED_FROM <= share <= 1 - MIXED_FROM
        if found := REFLECTION.search(text):
            self.num_reflecting += 1
            self.first = self.first or _passage(row, text, found)


def read_rollouts(path: Path) -> Rollouts:
    """Curves in % of the logged rollouts by optimizer step; only those that have something to show."""
    steps: dict[int, _Step] = {}
    for row in _rows(path):
        if (step := as_number(row["step"])) is not None:
            steps.setdefault(int(step), _Step()).add(row)
    logged = [
        {
            "step": step,
            "right": one.num_right / one.num_judged if one.num_judged else None,
            "reflecting": one.num_reflecting / one.num,
            "mixed": one.num_mixed / one.num,
            "chinese": one.num_chinese / one.num,
        }
        for step, one in sorted(steps.items())
    ]
    plots = (
        ("Right answers among the rollouts", "% of rollouts", ("right",)),
        ("Rollouts with words of reflection", "% of rollouts", ("reflecting",)),
        ("Language of the rollouts", "% of rollouts", ("chinese", "mixed")),
    )
    curves = []
    for title, axis, keys in plots:
        lines = [
            line for key in keys if (line := read_line(logged, key, key, 100)) and (key == "right" or any(line.values))
        ]
        curves += [Curve(title, axis, lines)] if lines else []
    return Rollouts(curves, _spread([one.first for _, one in sorted(steps.items()) if one.first]))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(1024, columns=list(COLUMNS)):
        yield from batch.to_pylist()


def _passage(row: dict[str, Any], text: str, found: re.Match[str]) -> Passage:
    start, end = found.span()
    return Passage(
        step=int(row["step"]),
        problem_id=str(row["problem_id"]),
        verdict=str(row["verdict"] or "not judged"),
        before=("…" if start > AROUND else "") + text[max(0, start - AROUND) : start],
        word=found.group(),
        after=text[end : end + AROUND] + ("…" if len(text) > end + AROUND else ""),
    )


def _spread(passages: list[Passage]) -> list[Passage]:
    """At most NUM_PASSAGES of them, evenly spaced, the first and the last among them."""
    if len(passages) <= NUM_PASSAGES:
        return passages
    return [passages[round(i * (len(passages) - 1) / (NUM_PASSAGES - 1))] for i in range(NUM_PASSAGES)]
