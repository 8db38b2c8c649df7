"""The Countdown solver: complete, exact, deterministic."""

from fractions import Fraction

import pytest

from tasks.core.countdown.expression import check
from tasks.core.countdown.solver import expressions, solve
from tasks.core.errors import UserError
from tasks.core.verdict import Verdict


def test_expressions_two_numbers_give_every_value() -> None:
    # 2+3, 2-3, 3-2, 2*3, 2/3, 3/2
    assert set(expressions([2, 3])) == {5, -1, 1, 6, Fraction(2, 3), Fraction(3, 2)}


def test_expressions_operators_limit_the_values() -> None:
    # ((1 ± 2) ± 4) with + and -, each sign pattern but all negative
    assert set(expressions([1, 2, 4], "+-")) == {7, -1, 3, 5, -5, 1, -3}
    assert set(expressions([2, 3, 4], "*")) == {24}


def test_expressions_same_call_gives_the_same_expressions_in_the_same_order() -> None:
    assert list(expressions([3, 5, 7, 9]).items()) == list(expressions([3, 5, 7, 9]).items())


def test_expressions_parentheses_only_where_needed() -> None:
    assert expressions([2, 3, 4], "-")[5] in ("4 - (2 - 3)", "4 + 3 - 2", "4 - 2 + 3")
    assert expressions([2, 3, 4], "+")[9].count("(") == 0
    assert expressions([3, 5, 7], "+*")[56] == "(3 + 5) * 7"


def test_expressions_one_number_is_itself_and_zero_divisors_are_skipped() -> None:
    assert expressions([7]) == {7: "7"}
    assert set(expressions([0, 5], "/")) == {0}


@pytest.mark.parametrize("numbers", [(3, 3, 8, 8), (1, 5, 5, 5), (4, 4, 10, 10), (1, 3, 4, 6)])
def test_solve_hard_24_puzzles_through_fractions(numbers: tuple[int, ...]) -> None:
    expression = solve(numbers, 24)
    assert expression is not None
    assert check(expression, numbers, 24).verdict is Verdict.CORRECT


def test_solve_agrees_with_expressions_on_every_target() -> None:
    for numbers in [(2, 3, 7), (1, 1, 6, 9), (0, 4, 5)]:
        reachable = expressions(numbers)
        for target in range(-20, 120):
            expression = solve(numbers, target)
            assert (expression is not None) == (target in reachable), (numbers, target)
            if expression is not None:
                assert check(expression, numbers, target).verdict is Verdict.CORRECT, expression


def test_solve_six_numbers_finds_the_famous_952() -> None:
    expression = solve((100, 75, 50, 25, 6, 3), 952)
    assert expression is not None
    assert check(expression, (100, 75, 50, 25, 6, 3), 952).verdict is Verdict.CORRECT


def test_solve_unreachable_target_is_none() -> None:
    assert solve((1, 1, 1), 7) is None
    assert solve((5,), 6) is None
    assert solve((5,), 5) == "5"


def test_solver_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="1 to 6 are allowed"):
        solve(range(1, 8), 10)
    with pytest.raises(UserError, match="operators is"):
        expressions([1, 2], "+^")
