"""How rewards read what TRL gives them: conversational or plain prompts and completions."""

from collections.abc import Sequence
from typing import Any, Literal

Message = dict[str, Any]
Part = str | list[Message]


def text_of(part: Part) -> str:
    """The text of a completion or prompt: the string itself, or the last message's content."""
    if isinstance(part, str):
        return part
    return (part[-1]["content"] or "") if part else ""


def lengths_in(
    unit: Literal["tokens", "characters"], completions: list[Any], completion_ids: list[list[int]]
) -> list[int]:
    """The length of each completion."""
    return [len(part) for part in (completion_ids if unit == "tokens" else map(text_of, completions))]


def with_opening_tag(prompt: Part | None, completion: str, thought_is_open: bool, tag: str = "<think>") -> str:
    """The completion with the `<think>` that its prompt already wrote.

    `thought_is_open` is for chat templates whose generation prompt ends in `<think>` (the DeepSeek-R1 distills): the
    messages do not show it. A prompt that ends in `<think>` itself is seen without it. `tag` is what is put before the
    completion: rewards that want a line break behind the tag say so, because the prompt may have written that too.
    """
    if thought_is_open or (prompt is not None and text_of(prompt).rstrip().endswith("<think>")):
        return tag + completion
    return completion


def whole_texts(
    prompts: Sequence[Part] | None, completions: Sequence[Part], thought_is_open: bool, tag: str = "<think>"
) -> list[str]:
    """`with_opening_tag` for a batch; without prompts, only `thought_is_open` says what they wrote."""
    known: Sequence[Part | None] = prompts or [None] * len(completions)
    return [
        with_opening_tag(prompt, text_of(completion), thought_is_open, tag)
        for prompt, completion in zip(known, completions, strict=True)
    ]


def thought_of(text: str) -> str | None:
    """The first thought of a text, blanks at its ends left out; None when it never ends.

    A `</think>` without `<think>` closes a thought that the prompt opened.
    """
    before, closing, _ = text.partition("</think>")
    if not closing:
        return None
    return (before.partition("<think>")[2] if "<think>" in before else before).strip()
