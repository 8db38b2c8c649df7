"""What the rewards that ask whether an answer is right share: the project's verifier, and its last batch of verdicts.

accuracy, cosine and length in one recipe judge the same completions: those with the same limits share one verifier,
and the second to ask for a batch gets what the first was told.
"""

import atexit
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tasks.core.rewards.text import text_of
from tasks.core.verdict import Verdict
from tasks.core.verifier import TASKS, Verifier

LogExtra = Callable[[str, list[Any]], None] | None
"""What TRL gives a reward to add a column to its log of completions: (name, one value a completion)."""


class Correctness:
    """Judges whole batches. Worker processes start with the first answer that needs Math-Verify."""

    def __init__(self, num_workers: int, timeout_s: float, memory_gb: float) -> None:
        self._verifier = Verifier(num_workers=num_workers, timeout_s=timeout_s, memory_gb=memory_gb)
        self._last: tuple[tuple[list[str], ...], list[Verdict | None]] | None = None

    def close(self) -> None:
        """End the worker processes."""
        self._verifier.close()

    def verdicts(
        self, task: Sequence[str], answer: Sequence[str], completions: Sequence[Any], log_extra: LogExtra
    ) -> list[Verdict | None]:
        """One verdict a completion, against its row's gold text `answer`; None for tasks that no verifier judges.

        They also go to the completions' log.
        """
        batch = (list(task), list(answer), [text_of(completion) for completion in completions])
        if self._last is None or self._last[0] != batch:
            self._last = (batch, self._judge(*batch))
        verdicts = self._last[1]
        if log_extra is not None:
            log_extra("verdict", [verdict and verdict.value for verdict in verdicts])
        return verdicts

    def _judge(self, task: list[str], answer: list[str], texts: list[str]) -> list[Verdict | None]:
        rows = [i for i, one in enumerate(task) if one in TASKS]
        tasks, golds, completions = ([column[i] for i in rows] for column in (task, answer, texts))
        verdicts: list[Verdict | None] = [None] * len(task)
        for i, judgement in zip(rows, self._verifier.judge(tasks, golds, completions), strict=True):
            verdicts[i] = judgement.verdict
        return verdicts


def is_right(verdict: Verdict | None) -> bool | None:
    """True or False; None where nothing was judged, or the gold could not be."""
    return None if verdict is None or verdict is Verdict.UNPARSABLE_GOLD else verdict.is_right


@cache
def shared_correctness(num_workers: int, timeout_s: float, memory_gb: float) -> Correctness:
    """The one judge with these limits in this process; its workers end with it."""
    judge = Correctness(num_workers, timeout_s, memory_gb)
    atexit.register(judge.close)
    return judge
