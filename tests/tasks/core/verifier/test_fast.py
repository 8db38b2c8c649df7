"""Tier 0 never differs from Math-Verify: on hand-picked pairs, on generated ones and on real golds."""

import itertools
import json
import logging
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tasks.core.verifier.fast import judge_fast

DATA = Path(__file__).parents[5] / "shared" / "data"


@pytest.fixture(scope="module")
def math_verify_says() -> Any:
    """(gold, answer) -> what Math-Verify itself says, both in a box."""
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)

    @cache
    def read(text: str) -> list[Any]:
        return parse(r"\boxed{" + text + "}", parsing_timeout=None)

    yield lambda gold, answer: verify(read(gold), read(answer), timeout_seconds=None)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("gold", "answer", "is_right"),
    [
        ("42", "42", True),
        ("42", "-42", False),
        ("1,234", "1234", True),
        ("1234", "1234.0", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"\frac{1}{2}", "2/4", True),
        (r"-\frac{1}{2}", r"-\dfrac{2}{4}", True),
        ("0.1", "0.10", True),
        ("0.1", "0.2", False),
        ("1/3", "0.33", False),
        ("1/3", "0.333333", None),  # equal after rounding to six places: Math-Verify decides
        ("B", "(B)", True),
        ("B", "C", False),
        (r"\text{(B)}", "B", True),
        ("B", "2", None),
        ("12,34", "1234", None),  # a set of two numbers
        ("1/0", "1/0", None),
        ("50%", "50", None),
        ("3 1/2", "3.5", None),
        ("٣", "3", None),
        ("x", "x", None),
        ("", "", None),
        ("9" * 10_000, "9" * 10_000, None),
    ],
)
def test_judge_fast_answers_only_where_it_is_plain(gold: str, answer: str, is_right: bool | None) -> None:
    assert judge_fast(gold, answer) is is_right


def test_judge_fast_agrees_with_math_verify_on_generated_pairs(math_verify_says: Any) -> None:
    rng = random.Random(0)
    num_judged = 0
    for _ in range(400):
        value = _value(rng)
        spellings = _spellings(*value)
        others = spellings + rng.sample(_spellings(value[0] + rng.choice([-1, 1]), value[1]), 2) + ["7", "0.25", "-3/8"]
        for _ in range(5):
            gold, answer = rng.choice(spellings), rng.choice(others)
            is_right = judge_fast(gold, answer)
            num_judged += is_right is not None
            assert is_right is None or is_right == math_verify_says(gold, answer), (gold, answer)
    assert num_judged > 1_000


def test_judge_fast_agrees_with_math_verify_on_every_pair_of_letters(math_verify_says: Any) -> None:
    letters = [
        form.format(letter) for letter in "ABCDEFGH" for form in ("{}", "({})", r"\text{{{}}}", r"\text{{({})}}")
    ]
    for gold, answer in itertools.product(letters, letters):
        assert judge_fast(gold, answer) == math_verify_says(gold, answer), (gold, answer)


def test_judge_fast_agrees_with_math_verify_on_real_golds(math_verify_says: Any) -> None:
    golds = _real_golds()
    if not golds:
        pytest.skip("shared/data is not there")
    rng = random.Random(0)
    num_judged = 0
    for gold in golds:
        for answer in (gold, gold.replace(",", ""), f"{gold}.0", f"-{gold}", rng.choice(golds)):
            is_right = judge_fast(gold, answer)
            num_judged += is_right is not None
            assert is_right is None or is_right == math_verify_says(gold, answer), (gold, answer)
    assert num_judged > 4 * len(golds) // 2


def _value(rng: random.Random) -> tuple[int, int]:
    """(numerator, denominator) of a number as answers hold them."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice([rng.randint(-20, 20), rng.randint(0, 3_000), rng.randint(-(10**12) + 1, 10**12 - 1)]), 1
    if kind < 0.7:
        return rng.randint(-60, 60), rng.choice([1, 2, 3, 4, 5, 7, 8, 10, 100, 1_000])
    return rng.randint(-(10**9), 10**9), rng.choice([1, 10, 100, 1_000, 10**6])


def _spellings(numerator: int, denominator: int) -> list[str]:
    sign, size = "-" * (numerator < 0), abs(numerator)
    spellings = [f"{numerator / denominator:.{places}f}" for places in (1, 2, 3, 6)]
    spellings += [f"{sign}{size}/{denominator}", rf"{sign}\frac{{{size}}}{{{denominator}}}"]
    spellings += [rf"{sign}\dfrac{{{2 * size}}}{{{2 * denominator}}}"]
    if denominator == 1:
        spellings += [str(numerator), f"{numerator:,}", f"{numerator}.0", f"{sign}00{size}"]
    return spellings


def _real_golds() -> list[str]:
    golds: list[str] = []
    if (DATA / "gsm8k_test.jsonl").is_file():
        lines = (DATA / "gsm8k_test.jsonl").read_text().splitlines()
        golds += [json.loads(line)["answer"].split("####")[1].strip() for line in lines]
    for name in ("math500.json", "aime2024.json"):
        if (DATA / name).is_file():
            golds += [row["final_answer"] for row in json.loads((DATA / name).read_text())]
    return golds
