"""thought_length: a small pull towards longer thoughts, as in Datawhale-R1's third reward.

Length is counted in characters of what stands between `<think>` and `</think>`, line breaks included.
"""

from typing import Any

from tasks.core.rewards.text import text_of, with_opening_tag


def make(*, full_at_chars: int, thought_is_open: bool = False) -> Any:
    """Reward from 0 to 1: the thought's length over `full_at_chars`, at most 1; 0 for a thought that never ends.

    Gamed by padding: repeated or empty talk earns as much as search. Keep its weight far below the accuracy reward's,
    and watch completions/mean_length against accuracy.
    """

    def thought_length(prompts: list[Any] | None, completions: list[Any], **columns: Any) -> list[float]:
        pairs = zip(prompts or [None] * len(completions), completions, strict=True)
        return [
            min(1.0, num_thought_chars(with_opening_tag(prompt, text_of(completion), thought_is_open)) / full_at_chars)
            for prompt, completion in pairs
        ]

    return thought_length


def num_thought_chars(text: str) -> int:
    """Characters of the first thought, blanks at its ends left out; 0 without both tags.

    A `</think>` without `<think>` closes a thought that the prompt opened.
    """
    before, closing, _ = text.partition("</think>")
    return len(before.partition("<think>")[2].strip() if "<think>" in before else before.strip()) if closing else 0
