"""Call rewards as TRL does."""

from collections.abc import Sequence
from typing import Any

from tasks.core.rewards import build_rewards


def reward(spec: dict[str, Any], completion: Any, prompt: Any = "Q", **columns: Any) -> float | None:
    """The reward of one completion by the only function of `spec`."""
    return rewards(spec, [completion], [prompt], **{key: [value] for key, value in columns.items()})[0]


def rewards(
    spec: dict[str, Any], completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any
) -> list[float | None]:
    """The rewards of a batch; each completion has its number of words as tokens unless `completion_ids` says more."""
    (function,), _ = build_rewards(spec)
    ids = [[1] * len(text.split()) if isinstance(text, str) else [1] for text in completions]
    columns = {"completion_ids": ids, **columns}
    return function(prompts=prompts or ["Q"] * len(completions), completions=completions, **columns)


def chat(text: str) -> list[dict[str, str]]:
    """A conversational completion."""
    return [{"role": "assistant", "content": text}]
