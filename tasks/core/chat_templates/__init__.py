"""Chat templates of our own, by name, for models that have none or whose own does not fit training.

- chatml: every message as `<|im_start|>role ... <|im_end|>`, its text unchanged, nothing added. It keeps thoughts:
  DeepSeek's own template of the distilled models cuts an assistant's text off before `</think>`, so that a student
  would never see one, and opens the thought in the generation prompt, where no format reward sees it; Open R1 replaces
  it for both reasons (open-r1@1416fa0, recipes/DeepSeek-R1-Distill-Qwen-1.5B/grpo). A base model also needs
  `eos_token: <|im_end|>`, or it would not end there (recipes/OpenR1-Distill-7B has it).
- r1_zero: plain text for base models, as in table 1 of DeepSeek-R1 (arXiv:2501.12948): an introduction, `User:`,
  `Assistant:`, think and answer tags. r1_zero_zh: the same in Chinese.
- orz: the same, and each question is led in by what Open-Reasoner-Zero says there (Open-Reasoner-Zero@3fdd9a0,
  playground/zero_setting_base.py): the answer in answer tags, the result in `\\boxed{}`.
- tinyzero: TinyZero's for base models (TinyZero@95df88f, examples/data_preprocess/countdown.py): the tags are told in
  the question (prompt style `tinyzero`), and the assistant begins with a sentence before its thought.

The words are our own; the structure is theirs, with these departures:

- All but chatml open the thought in the generation prompt, as Open-Reasoner-Zero and TinyZero do; DeepSeek-R1-Zero
  wrote `<think>` itself.
- They go on to the next line after it, for `>` and a line break are one token of Qwen's and Llama's vocabularies, and
  a prompt that ends between them shows the model what it never saw.
- A system message takes the place of the introduction.

With each of them a prompt, rendered with the generation prompt, is the beginning of the same prompt rendered with its
completion, whether the completion still has its `<think>` or not. SFT needs that.
"""

import json
import re
from pathlib import Path

from tasks.core.spelling import nearest

_DIRECTORY = Path(__file__).parent

NAMES = tuple(sorted(path.stem for path in _DIRECTORY.glob("*.jinja")))


def resolve_template(template: str) -> str:
    """The text of our template of that name, or the text itself. Raises ValueError for a name that is none of ours."""
    if template in NAMES:
        return (_DIRECTORY / f"{template}.jinja").read_text(encoding="utf-8")
    if re.fullmatch(r"[\w.-]*", template):
        raise ValueError(
            f"chat_template is {template!r}, which is neither Jinja text nor one of {', '.join(NAMES)}"
            f"{nearest(template, NAMES)}"
        )
    return template


def with_prefill(template: str, prefill: str) -> str:
    """The template with `prefill` at the beginning of every turn of the assistant, the generation prompt included.

    A turn that has it keeps it. Where `prefill` ends in `<think>`, with a line break or not, a turn's own goes.
    It stands in the template because TRL's GRPOTrainer (1.16) always asks for a generation prompt: a last message of
    the assistant in the data, which `continue_final_message` is for, would be closed and followed by a new turn.
    """
    own_tag = "<think>" if prefill.rstrip().endswith("<think>") else ""
    own_break = "\\n" if own_tag and prefill.endswith("\n") else ""
    return (
        f"{{%- set prefill = {json.dumps(prefill, ensure_ascii=False)} -%}}"
        "{%- set turns = namespace(all=[]) -%}"
        "{%- for message in messages -%}"
        "{%- if message['role'] == 'assistant' and not message['content'].startswith(prefill) -%}"
        f"{{%- set content = prefill + message['content'].removeprefix('{own_tag}').removeprefix('{own_break}') -%}}"
        "{%- set turns.all = turns.all + [dict(message, content=content)] -%}"
        "{%- else -%}{%- set turns.all = turns.all + [message] -%}{%- endif -%}"
        "{%- endfor -%}"
        "{%- set messages = turns.all -%}"
        f"{template.removesuffix(chr(10))}"
        "{% if add_generation_prompt %}{{ prefill }}{% endif %}"
    )
