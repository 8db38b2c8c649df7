"""reasoning_steps: how many marks of step-by-step writing the completion shows, full from three on.

Range: 0 to 1. Columns: none. For: base models that do not yet write their reasoning down. Source:
`reasoning_steps_reward` in open-r1@1416fa0, with one departure: it means to count a numbered list at the start of every
line, but its expression sees only the start of the text; here every line counts. English marks only. Gamed by writing
"First,Second,Next," or three bullet points without any reasoning.
"""

import re
from typing import Any

from tasks.core.rewards.text import text_of

_MARK = re.compile(r"Step \d+:|^\d+\.|\n[-*]|(?:First|Second|Next|Finally),", re.MULTILINE)


def make(*, num_steps: int = 3) -> Any:
    """Reward from 0 to 1: marks ("Step 2:", "2." or a bullet at a line's start, "First," …) over `num_steps`."""

    def reasoning_steps(completions: list[Any], **columns: Any) -> list[float]:
        return [min(1.0, len(_MARK.findall(text_of(completion))) / num_steps) for completion in completions]

    return reasoning_steps
