"""The exact Countdown checker: what is right, what is wrong and why, and that no text hurts it."""

import random

import pytest

from tasks.core.countdown.expression import check, judge_answer, read_gold
from tasks.core.countdown.solver import expressions
from tasks.core.verdict import Verdict


@pytest.mark.parametrize(
    "text",
    [
        "3 * 5 + 7",
        "7+3*5",
        "(7) + ((3)*(5))",
        "[3*5] + 7",
        "3 × 5 + 7",
        "3·5+7",
        r"3 \times 5 + 7",
        r"$3 \cdot 5 + 7$",
        r"\(3 \times 5 + 7\)",
        "3 x 5 + 7",
        "3＊5＋7",
        "（3*5）+7",
        "`3*5+7`",
        "3*5+7.",
        "3 * 5 + 7 = 22",
        "-(3 * -5) + 7",
        "+7 - -3*5",
        "3*5\n+7",
    ],
)
def test_check_right_expression_in_many_spellings_is_correct(text: str) -> None:
    assert check(text, [3, 5, 7], 22).verdict is Verdict.CORRECT


def test_check_division_is_exact() -> None:
    assert check("8 / (3 - 8 / 3)", [8, 3, 8, 3], 24).verdict is Verdict.CORRECT
    assert check(r"\frac{8}{3} * 3", [8, 3, 3], 8).verdict is Verdict.CORRECT
    assert check("1 ÷ 3 ∕ 3", [1, 3, 3], 1).reason == "gives 1/9, not 1"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("5 * 5 + 7", "uses 5 twice"),
        ("5 + 5 + 5 + 7 + 3", "uses 5 3 times"),
        ("3 * 5", "does not use 7"),
        ("3 * 5 + 8", "uses 8, which is not given"),
        ("3 + 5 + 7", "gives 15, not 22"),
        ("3 + 5 / 7", "gives 26/7, not 22"),
        ("3 * 5 + 7 = 23", "says it equals '23', not 22"),
        ("3 * 5 = 15 + 7 = 22", "says it equals '15 + 7 = 22', not 22"),
        ("3 5 7", "an operator is missing before '5'"),
        ("3(5)+7", "an operator is missing before '('"),
        ("3 * * 5 + 7", "a number is missing before '*'"),
        ("3 ** 5 + 7", "a number is missing before '*'"),
        ("3 ^ 5 + 7", "unexpected '^'"),
        ("3 * 5 +", "a number is missing at the end"),
        ("()", "a number is missing before ')'"),
        ("(3 * 5 + 7", "the parentheses do not match"),
        ("3 * 5) + 7", "the parentheses do not match"),
        ("(3 * 5] + 7", "the parentheses do not match"),
        ("3.0 * 5 + 7", "unexpected '.'"),
        ("three * 5 + 7", "unexpected 't'"),
        ("٣ * 5 + 7", "unexpected '٣'"),
        ("３ * 5 + 7", "unexpected '３'"),
        ("² * 5 + 7", "unexpected '²'"),
        (r"\sqrt{9} * 5 + 7", r"unexpected '\\sqrt'"),
        ("__import__('os')", "unexpected '_'"),
    ],
)
def test_check_wrong_expression_says_why(text: str, reason: str) -> None:
    judgement = check(text, [3, 5, 7], 22)
    assert (judgement.verdict, judgement.reason) == (Verdict.WRONG, reason)


def test_check_zero_divisor_is_wrong() -> None:
    assert check("1 / 0", [1, 0], 1).reason == "divides by zero"
    assert check("7 / (5 - 5)", [7, 5, 5], 7).reason == "divides by zero"


def test_check_repeated_numbers_are_counted() -> None:
    assert check("5 + 5", [5, 5], 10).verdict is Verdict.CORRECT
    assert check("5", [5, 5], 5).reason == "uses 5 once, given twice"
    assert check("5 + 5 + 5", [5, 5], 15).reason == "uses 5 3 times, given twice"


def test_check_subset_is_right_only_without_use_all() -> None:
    assert check("3 * 5", [3, 5, 7], 15, use_all=False).verdict is Verdict.CORRECT
    assert check("3 * 5", [3, 5, 7], 15).verdict is Verdict.WRONG


def test_check_blank_is_no_answer() -> None:
    assert check("  \n", [3, 5], 8).verdict is Verdict.NO_ANSWER


@pytest.mark.parametrize(
    "text",
    [
        "95**96**97",
        "95^96^97",
        "(" * 10_000,
        "(" * 10_000 + "3" + ")" * 10_000,
        "(" * 400 + "95+96" + ")" * 400 + "+97+",
        "1/0",
        "9" * 5_000,
        "9" * 10_000_000,
        "95*" * 300 + "96",
        "95/" * 300 + "96",
        "-" * 999,
        " " * 999 + "3",
        "=" * 999,
        "\\" * 999,
        r"\frac{" * 150,
        "\x00\ud800🙂",
        "95 96\u3000+",
    ],
)
def test_check_hostile_text_is_wrong_and_nothing_is_computed(text: str) -> None:
    judgement = check(text, [95, 96, 97], 20)
    assert judgement.verdict is Verdict.WRONG
    assert len(judgement.reason) < 80


def test_check_deep_parentheses_within_the_limit_are_read() -> None:
    assert check("(" * 400 + "95" + ")" * 400 + "+96", [95, 96], 191).verdict is Verdict.CORRECT


def test_check_random_characters_never_raise() -> None:
    rng = random.Random(0)
    for _ in range(20_000):
        text = "".join(rng.choices("357()[]+-*/=. x\\{}$٣²\n", k=rng.randint(0, 14)))
        assert check(text, [3, 5, 7], 22).verdict in (Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER)


def test_check_agrees_with_the_solver_on_every_value() -> None:
    for value, expression in expressions([2, 3, 4, 7]).items():
        if value.denominator == 1:
            assert check(expression, [2, 3, 4, 7], int(value)).verdict is Verdict.CORRECT, expression
        else:
            assert check(expression, [2, 3, 4, 7], 1).reason == f"gives {value}, not 1"


@pytest.mark.parametrize(
    "gold",
    [
        "",
        "20",
        "[3, 5]",
        '{"numbers": [3, 5]}',
        '{"numbers": [], "target": 8}',
        '{"numbers": [3, "5"], "target": 8}',
        '{"numbers": [3, true], "target": 8}',
        '{"numbers": [3, -5], "target": 8}',
        '{"numbers": [3, 5], "target": 8.0}',
        "[" * 100_000,
    ],
)
def test_judge_answer_malformed_gold_is_its_own_verdict(gold: str) -> None:
    assert read_gold(gold) is None
    assert judge_answer("3 + 5", gold).verdict is Verdict.UNPARSABLE_GOLD


def test_judge_answer_missing_answer_tells_cut_off_from_none() -> None:
    gold = '{"numbers": [3, 5], "target": 8}'
    assert judge_answer("3+5", gold).verdict is Verdict.CORRECT
    assert judge_answer(None, gold).verdict is Verdict.NO_ANSWER
    assert judge_answer(None, gold, truncated=True).verdict is Verdict.TRUNCATED
