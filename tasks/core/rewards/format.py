"""format: 1 when the completion is one thought in think tags and then one answer in answer tags, and nothing else.

As in open-r1's `format_reward` and the Countdown tutorials, but line breaks between and inside the tags are free
(open-r1 wants each tag on its own line), and a thought may hold any text but the tags themselves.
"""

from typing import Any

from tasks.core.rewards.text import text_of, with_opening_tag

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def make(*, thought_is_open: bool = False) -> Any:
    """Reward 1.0 or 0.0. `thought_is_open`: the chat template's generation prompt ends in `<think>`.

    Gamed by an empty or senseless thought: it says nothing of what is inside the tags but that it is not blank.
    """

    def format_reward(prompts: list[Any] | None, completions: list[Any], **columns: Any) -> list[float]:
        pairs = zip(prompts or [None] * len(completions), completions, strict=True)
        return [
            float(has_format(with_opening_tag(prompt, text_of(completion), thought_is_open)))
            for prompt, completion in pairs
        ]

    return format_reward


def has_format(text: str) -> bool:
    """Whether `text` is `<think>…</think> <answer>…</answer>`, each tag once, neither part blank, nothing around."""
    text = text.strip()
    if any(text.count(tag) != 1 for tag in _TAGS):
        return False
    if not text.startswith("<think>") or not text.endswith("</answer>"):
        return False
    thought, _, rest = text.removeprefix("<think>").partition("</think>")
    before, opening, answer = rest.removesuffix("</answer>").partition("<answer>")
    return bool(thought.strip() and opening and not before.strip() and answer.strip())
