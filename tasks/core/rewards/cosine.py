"""cosine: a right answer is worth more the shorter it is, a wrong one costs more the shorter it is.

Range: `min_value_wrong` to `max_value_correct`, None as for accuracy. Columns: `task` and `answer`. For: keeping
responses from growing without end, and from giving up early. Source: Demystifying Long Chain-of-Thought Reasoning
(arXiv:2502.03373), appendix C.1; `get_cosine_scaled_reward` in TRL 1.16 and open-r1@1416fa0. As in TRL, a length above
`max_len` counts as `max_len` (open-r1 lets the cosine climb again, which pays for endless text) and a bad gold leaves
the reward out (open-r1 gives 1). Gamed by padding a wrong answer: far below `max_len` every added token makes it
cheaper.
"""

import math
from typing import Any, Literal

from tasks.core.errors import UserError
from tasks.core.rewards.correctness import LogExtra, is_right, shared_correctness
from tasks.core.rewards.parameters import Number
from tasks.core.rewards.text import lengths_in


def make(
    *,
    max_len: int,
    unit: Literal["tokens", "characters"] = "tokens",
    min_value_wrong: Number = -1.0,
    max_value_wrong: Number = -0.5,
    min_value_correct: Number = 0.5,
    max_value_correct: Number = 1.0,
    num_workers: int = 1,
    timeout_s: float = 5.0,
    memory_gb: float = 2.0,
) -> Any:
    """Reward on half a cosine over length / `max_len`, from 0 to 1.

    Right: from `max_value_correct` at length 0 down to `min_value_correct`. Wrong: from `min_value_wrong` at length 0
    up to `max_value_wrong`. `unit`: length in tokens, as in TRL and the paper, or in characters, as in open-r1. (Its
    command line has 0.0 for `min_value_wrong`, which turns the wrong branch round.) The rest is accuracy's.
    """
    if min_value_correct > max_value_correct:
        raise UserError(
            f"rewards.cosine: min_value_correct {min_value_correct} is above max_value_correct {max_value_correct}: "
            "a right answer would be worth more the longer it is."
        )
    judge = shared_correctness(num_workers, timeout_s, memory_gb)

    def cosine(
        completions: list[Any],
        completion_ids: list[list[int]],
        answer: list[str],
        task: list[str],
        log_extra: LogExtra = None,
        **columns: Any,
    ) -> list[float | None]:
        lengths = lengths_in(unit, completions, completion_ids)
        rewards: list[float | None] = []
        verdicts = judge.verdicts(task, answer, completions, log_extra)
        for right, length in zip(map(is_right, verdicts), lengths, strict=True):
            # 1 for an empty completion, 0 at max_len and beyond.
            shortness = 0.5 * (1.0 + math.cos(math.pi * min(1.0, length / max_len)))
            long, short = (min_value_correct, max_value_correct) if right else (max_value_wrong, min_value_wrong)
            rewards.append(None if right is None else long + (short - long) * shortness)
        return rewards

    return cosine
