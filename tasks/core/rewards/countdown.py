"""countdown: 1 when the answer is an expression over the problem's numbers that equals its target.

Range: 0 or 1, None for rows of another task or with an unparsable gold. Columns: `answer`, the gold in JSON, and, where
the data mixes tasks, `task`. For: TinyZero's task (github.com/Jiayi-Pan/TinyZero), as in Mini-R1 and Datawhale-R1. It
cannot be gamed by the form of the answer; a model may learn to guess short expressions.
"""

from typing import Any

from tasks.core.answer import extract_tagged
from tasks.core.countdown.expression import judge_answer
from tasks.core.rewards.correctness import LogExtra
from tasks.core.rewards.text import text_of
from tasks.core.verdict import Verdict

TASK = "countdown"


def make(*, use_all: bool = True) -> Any:
    """Reward 1.0 or 0.0; None leaves the reward out. `use_all`: each number exactly once, else at most once."""

    def countdown(
        completions: list[Any],
        answer: list[str],
        task: list[str] | None = None,
        log_extra: LogExtra = None,
        **columns: Any,
    ) -> list[float | None]:
        verdicts = [
            judge_answer(extract_tagged(text_of(completion)), gold, use_all=use_all).verdict if kind == TASK else None
            for completion, gold, kind in zip(completions, answer, task or [TASK] * len(answer), strict=True)
        ]
        if log_extra is not None:
            log_extra("verdict", [verdict and verdict.value for verdict in verdicts])
        is_out = (None, Verdict.UNPARSABLE_GOLD)
        return [None if verdict in is_out else float(verdict is Verdict.CORRECT) for verdict in verdicts]

    return countdown
