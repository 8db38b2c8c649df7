"""length: within a problem's group, shorter completions are worth more; wrong ones are never worth more than 0.

Range: -0.5 to 0.5, None for tasks that the verifier does not judge. Columns: `task` and `answer`. For: token efficiency
once answers are right. Source: Kimi k1.5 (arXiv:2501.12599), §2.3.3; `len_reward` in open-r1@1416fa0, which compares
all completions of a batch, of whatever problem: `compare: batch` does so too. As in open-r1, a row whose gold cannot be
parsed counts as right. Gamed by answering at once without thinking: add it late, with a small weight, and watch
accuracy. A group that is spread over several processes is compared within each.
"""

from collections import defaultdict
from typing import Any, Literal

from tasks.core.rewards.correctness import LogExtra, is_right, shared_correctness
from tasks.core.rewards.text import lengths_in
from tasks.core.verdict import Verdict


def make(
    *,
    compare: Literal["problem", "batch"] = "problem",
    unit: Literal["characters", "tokens"] = "characters",
    num_workers: int = 1,
    timeout_s: float = 5.0,
    memory_gb: float = 2.0,
) -> Any:
    """Reward 0.5 for the shortest down to -0.5 for the longest, at most 0 for a wrong answer; 0 if all are as long.

    `unit`: length in characters, as in open-r1, or in tokens, as in the paper. `compare`: with the completions of the
    same prompt, as in the paper, or with the whole batch. The rest is accuracy's.
    """
    judge = shared_correctness(num_workers, timeout_s, memory_gb)

    def length(
        prompts: list[Any],
        completions: list[Any],
        completion_ids: list[list[int]],
        answer: list[str],
        task: list[str],
        log_extra: LogExtra = None,
        **columns: Any,
    ) -> list[float | None]:
        lengths = lengths_in(unit, completions, completion_ids)
        keys = [repr(prompt) if compare == "problem" else "" for prompt in prompts]
        groups: defaultdict[str, list[int]] = defaultdict(list)
        for key, one in zip(keys, lengths, strict=True):
            groups[key].append(one)
        spans = {key: (min(group), max(group)) for key, group in groups.items()}
        rewards = [_shortness(one, *spans[key]) for key, one in zip(keys, lengths, strict=True)]
        verdicts = judge.verdicts(task, answer, completions, log_extra)
        return [_bounded(reward, verdict) for reward, verdict in zip(rewards, verdicts, strict=True)]

    return length


def _shortness(length: int, shortest: int, longest: int) -> float:
    """From 0.5 for the shortest to -0.5 for the longest; 0 where there is no difference."""
    return 0.5 - (length - shortest) / (longest - shortest) if longest > shortest else 0.0


def _bounded(reward: float, verdict: Verdict | None) -> float | None:
    if verdict is None:
        return None
    return min(0.0, reward) if is_right(verdict) is False else reward
