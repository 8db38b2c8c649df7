"""soft_overlong_punishment: nothing up to a length, then a slope down to -1 at the longest that is allowed.

Range: -1 to 0. Columns: none; it reads the completions' token ids. For: a length limit that the model can feel before
it is cut off. Source: DAPO (arXiv:2503.14476), eq. 13; this is TRL's `get_soft_overlong_punishment`. Gamed by answering
short of the slope with the work undone: it never rewards a right answer, so accuracy must stand beside it. At TRL's
`max_completion_length` nothing is longer, so the slope's foot -1 is reached there.
"""

from typing import Any

from tasks.core.errors import UserError
from tasks.core.rewards.parameters import Count


def make(*, max_completion_len: int, soft_punish_cache: Count) -> Any:
    """Reward 0.0 up to `max_completion_len` - `soft_punish_cache` tokens, then falling to -1.0 at
    `max_completion_len` and beyond; with a cache of 0 only what is longer than `max_completion_len` is punished.
    """
    if soft_punish_cache > max_completion_len:
        raise UserError(
            f"rewards.soft_overlong_punishment.soft_punish_cache is {soft_punish_cache}, more than max_completion_len "
            f"{max_completion_len}: even an empty completion would be punished."
        )

    def soft_overlong_punishment(completion_ids: list[list[int]], **columns: Any) -> list[float]:
        from trl.rewards import get_soft_overlong_punishment

        return list(get_soft_overlong_punishment(max_completion_len, soft_punish_cache)(completion_ids))

    return soft_overlong_punishment
