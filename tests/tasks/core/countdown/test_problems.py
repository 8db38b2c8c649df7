"""The Countdown generator: unique, solvable, reproducible whatever the number of workers, and clear when it cannot."""

import itertools

import pytest

from tasks.core.countdown.expression import read_gold
from tasks.core.countdown.problems import Problem, generate, generate_split
from tasks.core.countdown.solver import expressions, solve
from tasks.core.errors import UserError

SMALL = {"num_numbers": (3,), "max_number": 10, "max_target": 100, "operators": "+-*"}
NUM_SMALL = 2_506  # counted by test_generate_small_space_finds_every_problem
# The first problems of seed 0: a change here changes every data set made from a seed.
PINNED = [Problem((40, 2, 62), 24), Problem((95, 25, 29), 91), Problem((59, 45, 74, 22), 38)]


def test_problem_key_ignores_the_order_and_answer_keeps_it() -> None:
    problem = Problem((7, 3, 5), 22)
    assert problem.key == ((3, 5, 7), 22) == Problem((5, 3, 7), 22).key
    assert problem.answer == '{"numbers": [7, 3, 5], "target": 22}'
    assert read_gold(problem.answer) == ((7, 3, 5), 22)


def test_generate_problems_are_unique_in_range_and_solvable() -> None:
    problems = generate(0, 3_000)
    assert len({problem.key for problem in problems}) == 3_000
    assert {len(problem.numbers) for problem in problems} == {3, 4}
    assert all(1 <= number <= 99 for problem in problems for number in problem.numbers)
    assert all(1 <= problem.target <= 99 for problem in problems)
    assert all(solve(*problem) is not None for problem in problems[:300])


def test_generate_respects_the_operators() -> None:
    problems = generate(1, 200, num_numbers=(3,), max_number=20, max_target=50, operators="-/")
    assert all(solve(*problem, operators="-/") is not None for problem in problems)


def test_generate_same_seed_gives_the_same_problems_and_another_seed_others() -> None:
    assert generate(0, 3) == PINNED
    assert generate(0, 500) == generate(0, 2_000)[:500]
    assert set(generate(0, 500)) != set(generate(1, 500))


def test_generate_two_workers_give_the_same_problems_as_one() -> None:
    assert generate(3, 30_000, num_workers=2) == generate(3, 30_000)


def test_generate_excluded_problems_do_not_come_back() -> None:
    first = generate(0, 1_000, **SMALL)
    rest = generate(0, 1_000, **SMALL, exclude={problem.key for problem in first})
    assert not {problem.key for problem in first} & {problem.key for problem in rest}


def test_generate_small_space_finds_every_problem() -> None:
    expected = {
        (numbers, int(value))
        for numbers in itertools.combinations_with_replacement(range(1, 11), 3)
        for value in expressions(numbers, "+-*")
        if value.denominator == 1 and 1 <= value <= 100
    }
    assert len(expected) == NUM_SMALL
    assert {problem.key for problem in generate(0, NUM_SMALL, **SMALL)} == expected


def test_generate_too_many_for_the_space_says_how_many_there_are() -> None:
    with pytest.raises(UserError, match=r"3,000 problems wanted, but only 2,506 .* Ask for at most 2,506"):
        generate(0, 3_000, **SMALL)
    with pytest.raises(UserError, match=r"only 506 .*besides 2,000 excluded ones"):
        generate(0, 600, **SMALL, exclude={problem.key for problem in generate(0, 2_000, **SMALL)})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_numbers": ()}, "num_numbers is"),
        ({"num_numbers": (1, 3)}, "num_numbers is"),
        ({"max_number": 0}, "max_number is 0"),
        ({"max_target": 0}, "max_target 0"),
        ({"operators": "+^"}, "operators is"),
        ({"operators": ""}, "operators is"),
        ({"num_numbers": (20,)}, "64-bit keys"),
    ],
)
def test_generate_bad_space_is_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        generate(0, 10, **SMALL | changed)


@pytest.mark.parametrize(("seed", "num", "num_workers"), [(-1, 1, 1), (2**64, 1, 1), (0, -1, 1), (0, 1, 0)])
def test_generate_bad_counts_are_refused(seed: int, num: int, num_workers: int) -> None:
    with pytest.raises(UserError, match="seed must be"):
        generate(seed, num, num_workers=num_workers)


def test_generate_split_train_and_eval_share_no_canonical_problem() -> None:
    train, held_out = generate_split(5, 1_500, 900, **SMALL)
    assert (len(train), len(held_out)) == (1_500, 900)
    assert not {problem.key for problem in train} & {problem.key for problem in held_out}


def test_generate_split_more_training_problems_leave_eval_as_it_is() -> None:
    assert generate_split(5, 100, 300, **SMALL)[1] == generate_split(5, 1_500, 300, **SMALL)[1]
