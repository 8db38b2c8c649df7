"""The text of a Countdown search, and the tokenizer that reads it."""

import random
from typing import Any

import pytest

from tasks.core.countdown.expression import check
from tasks.core.countdown.search import all_tries, write_trace
from tasks.core.scratch import Scratch, build_tokenizer
from tasks.core.verdict import Verdict
from tests.tasks.training_inputs import SHAPE, TEACHER, parsed


def trace(seed: int, **changes: Any) -> tuple[str, bool]:
    return write_trace([3, 5, 7], 20, rng=random.Random(seed), **(TEACHER | changes))


def test_all_tries_of_two_numbers_are_these() -> None:
    tries = [(one.steps, one.expression, one.value) for one in all_tries([8, 2], "+-*/", 100)]
    assert sorted(tries) == [
        ("8 * 2 = 16", "8 * 2", 16),
        ("8 + 2 = 10", "8 + 2", 10),
        ("8 - 2 = 6", "8 - 2", 6),  # 2 - 8 is below 0 and 2 / 8 is not whole
        ("8 / 2 = 4", "8 / 2", 4),
    ]


def test_all_tries_stay_within_the_limit() -> None:
    assert {one.value for one in all_tries([8, 2], "+*", 10)} == {10}


def test_all_tries_expressions_have_the_value_they_claim() -> None:
    for one in all_tries([6, 3, 2, 4], "+-*/", 1000):
        assert check(one.expression, [6, 3, 2, 4], one.value).verdict is Verdict.CORRECT, one


@pytest.mark.parametrize("seed", range(20))
def test_write_trace_without_errors_answers_right(seed: int) -> None:
    text, erred = trace(seed)
    answer = text.partition("<answer> ")[2].removesuffix(" </answer>")
    assert not erred and check(answer, [3, 5, 7], 20).verdict is Verdict.CORRECT


def test_write_trace_that_errs_answers_wrong() -> None:
    text, erred = trace(0, error_rate=1.0)
    answer = text.partition("<answer> ")[2].removesuffix(" </answer>")
    assert erred and check(answer, [3, 5, 7], 20).verdict is Verdict.WRONG


def test_write_trace_rates_at_their_ends_shape_the_search() -> None:
    at_once, _ = trace(0, hit_rate=1.0, guess_rate=0.0)
    assert " no " not in at_once and at_once.count(" yes ") == 1
    never, _ = trace(0, hit_rate=1e-9, guess_rate=0.0, max_failed_tries=4)
    assert never.count(" no ") == 4 and never.count(" yes ") == 1
    guesses = [trace(seed, hit_rate=1e-9, guess_rate=1.0, max_failed_before_guess=2)[0] for seed in range(30)]
    assert {guess.count(" no ") for guess in guesses} == {0, 1, 2} and not any(" yes " in guess for guess in guesses)


def test_write_trace_unsolvable_within_the_limits_says_so() -> None:
    with pytest.raises(ValueError, match=r"no combination of \[1, 1\] with \+ in whole numbers up to 10 gives 5"):
        write_trace([1, 1], 5, rng=random.Random(0), **(TEACHER | {"operators": "+", "max_value": 10}))


def test_tokenizer_reads_searches_word_by_word_and_back() -> None:
    tokenizer = build_tokenizer(parsed(Scratch, **SHAPE))
    for seed in range(10):
        text, _ = trace(seed)
        ids = tokenizer(text).input_ids
        assert len(ids) == len(text.split()) and tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text


def test_tokenizer_chat_template_ends_an_answer_and_opens_the_next() -> None:
    tokenizer = build_tokenizer(parsed(Scratch, **SHAPE))
    question = [{"role": "user", "content": "3 5 7 -> 20"}]
    asked = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=True)["input_ids"]
    told = tokenizer.apply_chat_template([*question, {"role": "assistant", "content": "yes"}], return_dict=True)[
        "input_ids"
    ]
    assert tokenizer.decode(asked) == "<|user|> 3 5 7 -> 20 <|assistant|>"
    assert told[: len(asked)] == asked  # so that SFT learns after the very prompt that GRPO and evaluate show
    assert told[-1] == tokenizer.eos_token_id and tokenizer.decode(told[len(asked) :]) == "yes <|end|>"
