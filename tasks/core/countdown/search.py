"""The text of a Countdown search: what the programmatic teacher writes and the tiny model learns to imitate.

A try combines all the numbers, one binary operation a step. A trace is failed tries, then the right one:

    <think> 3 + 5 = 8 , 8 * 7 = 56 no 7 - 3 = 4 , 4 * 5 = 20 yes </think> <answer> ( 7 - 3 ) * 5 </answer>

or, when the teacher is impatient, an answer that it gives without having tried it:

    <think> 3 + 5 = 8 , 8 * 7 = 56 no </think> <answer> ( 7 - 3 ) * 5 </answer>

Every integer, operator, bracket and tag stands between single spaces, so that a word-level tokenizer gives each one
token. Steps stay in the whole numbers from 0 to a limit; a division is tried only where it is exact.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple


class Try(NamedTuple):
    """One way to combine all numbers: the steps as text, the expression, and its value."""

    steps: str
    expression: str
    value: int


def write_trace(
    numbers: Sequence[int],
    target: int,
    *,
    rng: random.Random,
    hit_rate: float,
    max_failed_tries: int,
    guess_rate: float,
    max_failed_before_guess: int,
    error_rate: float,
    operators: str,
    max_value: int,
) -> tuple[str, bool]:
    """Write one assistant message and say whether it errs.

    Patient, the teacher finds the right try next with chance `hit_rate`, at the latest after `max_failed_tries` failed
    ones. With chance `guess_rate` it is impatient: after 0 to `max_failed_before_guess` failed tries it answers without
    having written the right one down. With chance `error_rate` it errs: it takes a failed try for the right one. Raises
    ValueError when no combination of `numbers` within the limits gives `target`.
    """
    tries = all_tries(numbers, operators, max_value)
    rng.shuffle(tries)
    right = [attempt for attempt in tries if attempt.value == target]
    failed = [attempt for attempt in tries if attempt.value != target]
    if not right:
        raise ValueError(
            f"no combination of {list(numbers)} with {operators} in whole numbers up to {max_value} gives {target}"
        )
    is_guess = rng.random() < guess_rate
    if is_guess:
        num_failed = rng.randint(0, max_failed_before_guess)
    else:
        num_failed = 0
        while num_failed < max_failed_tries and rng.random() >= hit_rate:
            num_failed += 1
    erred = bool(failed) and rng.random() < error_rate
    last = failed.pop() if erred else right[0]
    thoughts = [f"{attempt.steps} no" for attempt in failed[:num_failed]]
    if not is_guess:
        thoughts.append(f"{last.steps} yes")
    return " ".join(["<think>", *thoughts, "</think>", "<answer>", last.expression, "</answer>"]), erred


def all_tries(numbers: Sequence[int], operators: str, max_value: int) -> list[Try]:
    """Every distinct way to combine all of `numbers` with steps in 0 to `max_value`, in a fixed order."""
    tries = _combine([(number, str(number)) for number in numbers], "", operators, max_value)
    return list({attempt.steps: attempt for attempt in tries}.values())


def _combine(terms: list[tuple[int, str]], steps: str, operators: str, max_value: int) -> list[Try]:
    """All ways to go on from `terms`, (value, expression) pairs, after `steps`."""
    if len(terms) == 1:
        return [Try(steps, terms[0][1], terms[0][0])]
    tries = []
    for i, (a, left) in enumerate(terms):
        for j, (b, right) in enumerate(terms):
            if i == j:
                continue
            rest = [term for k, term in enumerate(terms) if k not in (i, j)]
            for operator in operators:
                if operator in "+*" and i > j:
                    continue  # a + b and b + a are one try
                value = _apply(a, operator, b)
                if value is None or not 0 <= value <= max_value:
                    continue
                step = f"{a} {operator} {b} = {value}"
                term = (value, f"{_bracket(left)} {operator} {_bracket(right)}")
                tries += _combine([term, *rest], f"{steps} , {step}" if steps else step, operators, max_value)
    return tries


def _apply(a: int, operator: str, b: int) -> int | None:
    """a operator b, None where a division is not exact."""
    if operator == "/":
        return a // b if b and a % b == 0 else None
    return a + b if operator == "+" else a - b if operator == "-" else a * b


def _bracket(expression: str) -> str:
    return f"( {expression} )" if " " in expression else expression
