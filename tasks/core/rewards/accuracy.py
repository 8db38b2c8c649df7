"""accuracy: 1 when the project's verifier calls the answer right, whatever the task.

Range: 0 or 1, None where the gold cannot be parsed and for tasks that the verifier does not judge, such as `code`.
Columns: `task` and `answer`, the gold's text. For: the outcome itself (DeepSeek-R1, arXiv:2501.12948, §2.2.2); the same
verdicts filter traces and score evaluations. In the place of `accuracy_reward` in open-r1@1416fa0 and TRL 1.16, whose
rule for golds this keeps. Gamed only where the verifier is: watch its false positives on the audit set.
"""

from typing import Any

from tasks.core.rewards.correctness import LogExtra, is_right, shared_correctness


def make(*, num_workers: int = 1, timeout_s: float = 5.0, memory_gb: float = 2.0) -> Any:
    """Reward 1.0 or 0.0; None (TRL leaves the reward out) where the gold cannot be parsed.

    `num_workers` processes run Math-Verify, each answer for at most `timeout_s` in at most `memory_gb`.
    """
    judge = shared_correctness(num_workers, timeout_s, memory_gb)

    def accuracy(
        completions: list[Any], answer: list[str], task: list[str], log_extra: LogExtra = None, **columns: Any
    ) -> list[float | None]:
        right = map(is_right, judge.verdicts(task, answer, completions, log_extra))
        return [None if one is None else float(one) for one in right]

    return accuracy
