"""countdown: 1 when the answer is an expression over the problem's numbers that equals its target."""

from typing import Any

from tasks.core.answer import extract_tagged
from tasks.core.countdown.expression import judge_answer
from tasks.core.rewards.text import text_of
from tasks.core.verdict import Verdict


def make(*, use_all: bool = True) -> Any:
    """Reward 1.0 or 0.0; None (TRL leaves the reward out) for rows of another task or with an unparsable gold.

    `use_all`: each number exactly once, else at most once. Columns: `answer`, the gold in JSON, and, where the data
    mixes tasks, `task`. It cannot be gamed by the form of the answer; a model may learn to guess short expressions.
    """

    def countdown(
        prompts: list[Any], completions: list[Any], answer: list[str], task: list[str] | None = None, **columns: Any
    ) -> list[float | None]:
        return [
            _reward(text_of(completion), gold, use_all) if task is None or task[i] == "countdown" else None
            for i, (completion, gold) in enumerate(zip(completions, answer, strict=True))
        ]

    return countdown


def _reward(completion: str, gold: str, use_all: bool) -> float | None:
    verdict = judge_answer(extract_tagged(completion), gold, use_all=use_all).verdict
    return None if verdict is Verdict.UNPARSABLE_GOLD else float(verdict is Verdict.CORRECT)
