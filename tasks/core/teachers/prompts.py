"""What a model is told besides the problem: by a built-in prompt's name, or in the recipe's own words.

The prompts are of our own wording. They ask for what DeepSeek-R1's template asks for (arXiv:2501.12948, table 1:
thoughts inside think tags, then the answer) and for the box that Math-Verify reads; r1_zero_* ask for answer tags in
its place, as that template does.
"""

import re
from collections.abc import Mapping
from typing import Any

from tasks.core.spelling import nearest

SYSTEM_PROMPTS: Mapping[str, str] = {
    "r1_english": (
        "You solve problems by thinking before you answer. First think the problem through between <think> and "
        "</think>: try ideas, check every step, and go back when something does not fit. Then write a short solution "
        "for the reader, and end it with the final answer, and nothing else, inside \\boxed{}."
    ),
    "r1_chinese": (
        "你解题时先思考，再作答。先在 <think> 与 </think> 之间充分思考：尝试不同思路，逐步检验，"
        "发现不对就退回重来。然后为读者写出简洁的解答，"
        "并在末尾用 \\boxed{} 给出最终答案，框内只写答案。"
    ),
    "r1_zero_english": (
        "You are an assistant who first works out in thought how to get to the answer, then tells the user the answer. "
        "The thoughts stand between <think> and </think>, the answer between <answer> and </answer>, so that a reply "
        "reads <think> thoughts </think> <answer> answer </answer>."
    ),
    "r1_zero_chinese": (
        "你是一个助手，先在心里想清楚解题过程，再把答案告诉用户。思考过程写在 <think> 和 </think> 之间，"
        "答案写在 <answer> 和 </answer> 之间，即 <think> 思考过程 </think> <answer> 答案 </answer>。"
    ),
}
INSTRUCTIONS: Mapping[str, str] = {
    "boxed_english": "Reason step by step. Put the final answer, and nothing else, inside \\boxed{}.",
    "boxed_chinese": "请逐步推理，并把最终答案写在 \\boxed{} 中，框内只写答案。",
}


def resolve(text: str | None, built_in: Mapping[str, str]) -> str | None:
    """The built-in prompt of this name, or the text itself."""
    return built_in.get(text, text) if text is not None else None


def system_prompt_text(text: str | None) -> str | None:
    """The system prompt of this name, or the text itself. Raises ValueError as `refuse_unknown_name` does."""
    return resolve(refuse_unknown_name(text, "system_prompt", SYSTEM_PROMPTS), SYSTEM_PROMPTS)


def refuse_unknown_name(text: str | None, key: str, built_in: Mapping[str, str]) -> str | None:
    """The text. Raises ValueError when it is one word that looks like a name and is no built-in prompt's."""
    if text is not None and not text.strip():
        raise ValueError(f"{key} is blank: write a prompt, name one of {', '.join(built_in)}, or leave it out")
    if text is not None and re.fullmatch(r"[A-Za-z0-9_.-]+", text) and text not in built_in:
        raise ValueError(
            f"{key} is {text!r}, which names no prompt: the names are {', '.join(built_in)}{nearest(text, built_in)}"
        )
    return text


def as_asked(prompt: list[dict[str, str]], system_prompt: str | None, instruction: str | None) -> list[dict[str, Any]]:
    """The chat messages that the teacher sees: `system_prompt` in the place of the prompt's own system message, and
    `instruction` below the last message. The trace keeps `prompt`, which is what a student is trained on."""
    messages = [dict(message) for message in prompt]
    if system_prompt is not None:
        messages = [message for message in messages if message["role"] != "system"]
        messages.insert(0, {"role": "system", "content": system_prompt})
    if instruction is not None:
        messages[-1]["content"] = f"{messages[-1]['content']}\n\n{instruction}"
    return messages
