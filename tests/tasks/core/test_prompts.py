"""The Countdown prompts: each says all that the verifier and the format reward ask for."""

import re

import pytest

from tasks.core.answer import extract_tagged
from tasks.core.countdown.expression import check
from tasks.core.countdown.prompts import PROMPT_STYLES
from tasks.core.verdict import Verdict


def test_prompt_tokens_is_numbers_arrow_target() -> None:
    assert PROMPT_STYLES["tokens"]([3, 5, 7], 20) == [{"role": "user", "content": "3 5 7 -> 20"}]


@pytest.mark.parametrize("style", ["english", "chinese"])
def test_prompt_in_words_shows_problem_and_tags(style: str) -> None:
    messages = PROMPT_STYLES[style]([31, 57, 8], 64)
    text = " ".join(message["content"] for message in messages)
    assert [message["role"] for message in messages] == ["system", "user"]
    assert all(tag in text for tag in ("<think>", "</think>", "<answer>", "</answer>"))
    assert all(str(number) in messages[1]["content"] for number in (31, 57, 8, 64))


@pytest.mark.parametrize("style", ["english", "chinese"])
def test_prompt_example_is_right_by_the_verifiers_own_judgement(style: str) -> None:
    text = PROMPT_STYLES[style]([31, 57, 8], 64)[1]["content"]
    answer = extract_tagged(text)
    assert answer is not None and check(answer, [2, 3, 4], 10).verdict is Verdict.CORRECT


def test_prompt_chinese_has_chinese_punctuation() -> None:
    for message in PROMPT_STYLES["chinese"]([31, 57, 8], 64):
        assert not re.findall(r"[一-鿿][,:;?!.]", message["content"])
