"""format: 1 when the completion is laid out as asked, else 0.

Range: 0 or 1. Columns: none. For: teaching the tags that the verifier reads (DeepSeek-R1, arXiv:2501.12948, §2.2.2).
Gamed by an empty or senseless thought: it says nothing of what is inside the tags but that it is not blank, and layouts
`think` and `open_r1` not even that. Read completions while it rises before accuracy does.

Layouts:
- `think_answer`: one thought in think tags, then one answer in answer tags, and nothing else. Line breaks between and
  inside the tags are free, and a thought may hold any text but the tags themselves.
- `open_r1`: the language of `format_reward` in open-r1@1416fa0: each tag on a line of its own, and as there, further
  tags inside the parts and further lines behind the answer do no harm.
- `think`: the language of `think_format_reward` in TRL 1.16: it opens with the only `<think>` and closes it; whatever
  follows is the answer.
"""

from typing import Any, Literal

from tasks.core.errors import UserError
from tasks.core.rewards.text import whole_texts

Layout = Literal["think_answer", "open_r1", "think"]
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_HINGE = "\n</think>\n<answer>\n"


def make(*, layout: Layout = "think_answer", code_language: str | None = None, thought_is_open: bool = False) -> Any:
    """Reward 1.0 or 0.0.

    `code_language`: the answer must also hold a closed code block whose fence begins so, such as `python` (open-r1's
    `code_format`). `thought_is_open`: the chat template's generation prompt ends in `<think>`.
    """
    if code_language is not None and layout == "think":
        raise UserError("rewards.format.code_language looks into the answer tags: layout think has none.")
    tag = "<think>\n" if layout == "open_r1" else "<think>"

    def format_reward(prompts: list[Any] | None, completions: list[Any], **columns: Any) -> list[float]:
        texts = whole_texts(prompts, completions, thought_is_open, tag)
        return [float(_fits(text, layout, code_language)) for text in texts]

    return format_reward


def _fits(text: str, layout: Layout, code_language: str | None) -> bool:
    if layout == "think":
        return text.startswith("<think>") and text.count("<think>") == 1 and "</think>" in text
    if layout == "open_r1":
        return _has_open_r1_format(text, code_language)
    return has_format(text) and (code_language is None or _after_block(text, text.index("<answer>"), code_language) > 0)


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


def _has_open_r1_format(text: str, code_language: str | None) -> bool:
    """`<think>` line, anything, `</think>` and `<answer>` lines, anything, a line that `</answer>` ends.

    Plain searches from left to right: the earliest match of each piece leaves most room for the next.
    """
    if not text.startswith("<think>\n") or (hinge := text.find(_HINGE, len("<think>\n"))) < 0:
        return False
    start = hinge + len(_HINGE)
    if code_language is not None:
        start = _after_block(text, start, code_language)
    return start >= 0 and (text.find("\n</answer>\n", start) >= 0 or text.endswith("\n</answer>", start))


def _after_block(text: str, start: int, language: str) -> int:
    """Where the first closed code block of the language behind `start` ends, or -1."""
    fence = f"```{language}"
    opening = text.find(fence, start)
    closing = text.find("```", opening + len(fence)) if opening >= 0 else -1
    return closing + 3 if closing >= 0 else -1
