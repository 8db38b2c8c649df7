"""tag_count: a quarter for each of the four tags that stands in the completion exactly once.

Range: 0 to 1 in quarters. Columns: none. For: a slope towards `format` where no completion earns that yet. Source:
`tag_count_reward` in open-r1@1416fa0, after W. Brown's GRPO demo. Gamed by the bare tags in any order with nothing
between them, so give it less weight than `format` and drop it once that is learnt.
"""

from typing import Any, Literal

from tasks.core.rewards.text import whole_texts

Layout = Literal["open_r1", "think_answer"]
_TAGS: dict[Layout, tuple[str, ...]] = {
    "open_r1": ("<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>"),
    "think_answer": ("<think>", "</think>", "<answer>", "</answer>"),
}


def make(*, layout: Layout = "open_r1", thought_is_open: bool = False) -> Any:
    """Reward 0, 0.25, 0.5, 0.75 or 1.

    `layout`: `open_r1` counts a tag only with the line breaks that open-r1 wants around it, `think_answer` the bare
    tag; take the one that `format` has. `thought_is_open`: the chat template's generation prompt ends in `<think>`.
    """
    tags = _TAGS[layout]

    def tag_count(prompts: list[Any] | None, completions: list[Any], **columns: Any) -> list[float]:
        texts = whole_texts(prompts, completions, thought_is_open, tags[0])
        return [sum(text.count(tag) == 1 for tag in tags) / len(tags) for text in texts]

    return tag_count
