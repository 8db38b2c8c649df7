"""How rewards read what TRL gives them: conversational or plain prompts and completions."""

from typing import Any

Message = dict[str, Any]


def text_of(part: str | list[Message]) -> str:
    """The text of a completion or prompt: the string itself, or the last message's content."""
    if isinstance(part, str):
        return part
    return (part[-1]["content"] or "") if part else ""


def with_opening_tag(prompt: str | list[Message] | None, completion: str, thought_is_open: bool) -> str:
    """The completion with the `<think>` that its prompt already wrote.

    `thought_is_open` is for chat templates whose generation prompt ends in `<think>` (the DeepSeek-R1 distills): the
    messages do not show it. A prompt that ends in `<think>` itself is seen without it.
    """
    if thought_is_open or (prompt is not None and text_of(prompt).rstrip().endswith("<think>")):
        return "<think>" + completion
    return completion
