"""Our chat templates, and a prefill on any template: what GRPO asks and what SFT trains on fit together."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tasks.core.chat_templates import NAMES, resolve_template, with_prefill
from tasks.core.scratch import CHAT_TEMPLATE, Scratch, build_tokenizer
from tests.tasks.training_inputs import SHAPE, parsed

BYTES = {key: value for key, value in SHAPE.items() if key != "max_integer"} | {"vocabulary": "bytes"}
QUESTION = [{"role": "user", "content": "What is 2 + 3?"}]
PREFILL = "Let me see.\n<think>"
COMPLETIONS = {
    "tagged": "<think>\n2 and 3 are 5.\n</think>\n<answer>5</answer>",
    "open": "2 and 3 are 5.\n</think>\n<answer>5</answer>",  # sampled after an opened thought
}


def tokenizer_with(template: str) -> Any:
    tokenizer = build_tokenizer(parsed(Scratch, **BYTES))
    tokenizer.chat_template = template
    return tokenizer


def rendered(template: str, messages: list[dict[str, str]], *, generate: bool = False) -> str:
    return tokenizer_with(template).apply_chat_template(messages, add_generation_prompt=generate, tokenize=False)


def templates() -> dict[str, str]:
    """Ours, and ours and others' with a prefill."""
    others = {"qwen2_5": (files("trl") / "chat_templates" / "qwen2_5.jinja").read_text(), "words": CHAT_TEMPLATE}
    ours = {name: resolve_template(name) for name in NAMES}
    chats = {name: with_prefill(text, PREFILL) for name, text in {"chatml": ours["chatml"], **others}.items()}
    return ours | {f"{name} with prefill": text for name, text in chats.items()}


TEMPLATES = templates()


def end_of(name: str) -> str:
    return " <|end|>" if name.startswith("words") else "<|im_end|>"


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("kind", COMPLETIONS)
def test_chat_template_prompt_begins_what_sft_trains_on(name: str, kind: str) -> None:
    answer = [{"role": "assistant", "content": COMPLETIONS[kind]}]
    prompt, whole = rendered(TEMPLATES[name], QUESTION, generate=True), rendered(TEMPLATES[name], QUESTION + answer)
    assert whole.startswith(prompt)
    learned = whole.removeprefix(prompt)
    opens = prompt.rstrip().endswith("<think>")
    assert opens == (name != "chatml")
    assert learned.rstrip().endswith("</answer>" + end_of(name))
    assert learned.count("<think>") == (0 if opens or kind == "open" else 1)
    assert "2 and 3 are 5.\n</think>\n<answer>5</answer>" in learned


def test_chat_template_trl_tokenises_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from tasks.core.scratch import build_model

    rows = [
        {"prompt": QUESTION, "completion": [{"role": "assistant", "content": text}]} for text in COMPLETIONS.values()
    ]
    shape = parsed(Scratch, **(BYTES | {"max_positions": 1024}))
    arguments = SFTConfig(str(tmp_path), use_cpu=True, report_to="none", completion_only_loss=True, max_length=1024)
    for name in (*NAMES, "qwen2_5 with prefill"):
        template = TEMPLATES[name]
        tokenizer = tokenizer_with(template)
        trainer = SFTTrainer(
            build_model(shape, tokenizer, 0),
            arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        for row in trainer.train_dataset:
            prompt = [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label == -100]
            assert tokenizer.decode(prompt) == rendered(template, QUESTION, generate=True), name
    assert "not a prefix" not in caplog.text


def test_chat_template_system_message_stands_for_the_introduction() -> None:
    system = [{"role": "system", "content": "Be brief."}]
    for name in ("r1_zero", "orz", "tinyzero"):
        text = rendered(TEMPLATES[name], system + QUESTION, generate=True)
        assert text.startswith("Be brief.\nUser: ")
        assert rendered(TEMPLATES[name], QUESTION, generate=True).startswith("User and Assistant are talking.")


def test_chat_template_chinese_asks_and_answers_nothing_itself() -> None:
    text = rendered(TEMPLATES["r1_zero_zh"], [{"role": "user", "content": "5 加 6 等于几？"}], generate=True)
    assert text.endswith("\n用户：5 加 6 等于几？\n助手：<think>\n") and "11" not in text


def test_chat_template_earlier_turns_end_like_the_last() -> None:
    talk = [
        *QUESTION,
        {"role": "assistant", "content": COMPLETIONS["tagged"]},
        {"role": "user", "content": "And 4 + 5?"},
    ]
    for name, template in TEMPLATES.items():
        text = rendered(template, talk, generate=True)
        assert text.index("</answer>" + end_of(name)) < text.index("And 4 + 5?"), name


def test_resolve_template_knows_names_and_takes_text() -> None:
    assert resolve_template("{{ messages }}") == "{{ messages }}"
    with pytest.raises(
        ValueError, match=r"'chatlm', which is neither Jinja text nor one of chatml, .*; nearest: chatml"
    ):
        resolve_template("chatlm")


@pytest.mark.parametrize(
    ("prefill", "content"),
    [
        ("Well.\n<think>", "<think>\nA"),
        ("Well.\n<think>\n", "<think>\nA"),
        ("Well.\n<think>\n", "A"),
        ("Well.\n<think>\n", "Well.\n<think>\nA"),
    ],
)
def test_with_prefill_says_nothing_twice(prefill: str, content: str) -> None:
    answer = [{"role": "assistant", "content": content}]
    text = rendered(with_prefill(resolve_template("chatml"), prefill), QUESTION + answer)
    assert text.endswith("<|im_start|>assistant\nWell.\n<think>\nA<|im_end|>\n")


def test_with_prefill_takes_any_text() -> None:
    prefill = 'He said: "\\boxed{}",\n他说 {{ x }}'
    text = rendered(with_prefill(resolve_template("chatml"), prefill), QUESTION, generate=True)
    assert text.endswith("<|im_start|>assistant\n" + prefill)
    assert json.dumps(prefill) not in text


def test_byte_tokenizer_gives_any_text_back() -> None:
    tokenizer = build_tokenizer(parsed(Scratch, **BYTES))
    text = "<think>\n 1+1 = 2 \t等于二\u2028😀\r\n</think><answer>2</answer> é"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text and tokenizer.decode(ids, skip_special_tokens=True) == text
    # 4 tags and the bytes of the rest: 3 + 256 + 4 tokens in all
    rest = len(text.encode()) - len("<think></think><answer></answer>")
    assert len(ids) == 4 + rest and len(tokenizer) == 263
    assert (tokenizer.pad_token_id, tokenizer.eos_token, tokenizer.unk_token) == (0, "<|im_end|>", None)
