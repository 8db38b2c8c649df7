"""accuracy: 1 when the project's verifier calls the answer right, whatever the task."""

from typing import Any

from tasks.core.rewards.text import text_of
from tasks.core.verdict import Verdict
from tasks.core.verifier import Verifier


def make(*, num_workers: int = 1, timeout_s: float = 5.0, memory_gb: float = 2.0) -> Any:
    """Reward 1.0 or 0.0; None (TRL leaves the reward out), as in open-r1, where the gold cannot be parsed.

    Columns: `task` and `answer`, the gold's text. Worker processes start with the first answer that needs Math-Verify,
    and end with this one. Gamed only where the verifier is: watch its false positives on the audit set.
    """
    verifier = Verifier(num_workers=num_workers, timeout_s=timeout_s, memory_gb=memory_gb)

    def accuracy(
        prompts: list[Any], completions: list[Any], answer: list[str], task: list[str], **columns: Any
    ) -> list[float | None]:
        judgements = verifier.judge(task, answer, [text_of(completion) for completion in completions])
        return [
            None if judgement.verdict is Verdict.UNPARSABLE_GOLD else float(judgement.verdict.is_right)
            for judgement in judgements
        ]

    return accuracy
