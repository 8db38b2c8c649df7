"""thought_length: a small pull towards longer thoughts, as in Datawhale-R1's third reward.

Range: 0 to 1. Columns: none. Length is counted in characters of what stands between `<think>` and `</think>`, line
breaks included. Gamed by padding: repeated or empty talk earns as much as search. Keep its weight far below the
accuracy reward's, and watch completions/mean_length against accuracy.
"""

from typing import Any

from tasks.core.rewards.text import thought_of, whole_texts


def make(*, full_at_chars: int, thought_is_open: bool = False) -> Any:
    """Reward from 0 to 1: the thought's length over `full_at_chars`, at most 1; 0 for a thought that never ends."""

    def thought_length(prompts: list[Any] | None, completions: list[Any], **columns: Any) -> list[float]:
        texts = whole_texts(prompts, completions, thought_is_open)
        return [min(1.0, len(thought_of(text) or "") / full_at_chars) for text in texts]

    return thought_length
