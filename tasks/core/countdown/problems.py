"""Countdown problems from a seed: unique, solvable, the same whatever the number of workers.

A candidate draws its numbers, then combines two of them at random with a random operator until one value is left; that
value is the target, so an expression over all the numbers exists. Candidates whose target is not in 1…max_target, or
whose divisions leave a remainder, are dropped. Candidates come in numbered blocks; block i of a seed has the same
content wherever it is computed (Philox counter RNG keyed by (seed, i), whose raw stream NumPy guarantees), and blocks
are taken in order, so workers change the speed and nothing else.

Two problems are the same when their sorted numbers and their target are (`Problem.key`).
"""

import json
from collections import deque
from collections.abc import Collection, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

from tasks.core.errors import UserError

OPERATORS = "+-*/"
BLOCK_CANDIDATES = 16_384
BLOCKS_AHEAD_PER_WORKER = 4
GIVE_UP_BLOCKS = 64  # so many blocks (1 M candidates) that add fewer than GIVE_UP_FOUND problems end the search
GIVE_UP_FOUND = 16

Key = tuple[tuple[int, ...], int]


class Problem(NamedTuple):
    """One problem; `numbers` keep the order in which they are shown."""

    numbers: tuple[int, ...]
    target: int

    @property
    def key(self) -> Key:
        """The canonical problem: (sorted numbers, target)."""
        return tuple(sorted(self.numbers)), self.target

    @property
    def answer(self) -> str:
        """The gold as problems.parquet holds it: '{"numbers": [3, 5, 7], "target": 22}'."""
        return json.dumps({"numbers": list(self.numbers), "target": self.target})


@dataclass(frozen=True)
class _Space:
    """What candidates are drawn from."""

    num_numbers: tuple[int, ...]
    max_number: int
    max_target: int
    operators: str

    def __post_init__(self) -> None:
        if not self.num_numbers or min(self.num_numbers) < 2:
            raise UserError(f"countdown: num_numbers is {self.num_numbers}: give counts of at least 2, such as [3, 4].")
        if min(self.max_number, self.max_target) < 1:
            raise UserError(
                f"countdown: max_number is {self.max_number} and max_target {self.max_target}: both must be at least 1."
            )
        if not self.operators or set(self.operators) - set(OPERATORS):
            raise UserError(f"countdown: operators is {self.operators!r}: give one or more of {OPERATORS!r}.")
        largest = max(self.num_numbers)
        if (self.max_number + 1) ** largest * (self.max_target + 1) >= 2**63:
            raise UserError(
                f"countdown: {largest} numbers up to {self.max_number} with targets up to {self.max_target} do not fit "
                "64-bit keys: lower num_numbers, max_number or max_target."
            )


class _Block(NamedTuple):
    """The usable candidates of one block, N of them, unique within the block and in the order drawn."""

    keys_N: list[int]
    numbers_N: list[tuple[int, ...]]
    targets_N: list[int]


def generate(
    seed: int,
    num: int,
    *,
    num_numbers: Collection[int] = (3, 4),
    max_number: int = 99,
    max_target: int = 99,
    operators: str = OPERATORS,
    exclude: Collection[Key] = (),
    num_workers: int = 1,
) -> list[Problem]:
    """`num` problems, no two with the same key and none with a key in `exclude`.

    `num_numbers` lists the counts to draw from with equal chance; numbers are drawn from 1…max_number with repeats;
    targets lie in 1…max_target. The defaults have the shape of Countdown-Tasks-3to4. A longer list from the same seed
    begins with the shorter one. Raises UserError when the space does not hold `num` problems.
    """
    if not 0 <= seed < 2**64 or num < 0 or num_workers < 1:
        raise UserError(
            f"countdown: seed {seed}, num {num}, num_workers {num_workers}: seed must be in 0…2^64-1, num 0 or more, "
            "num_workers 1 or more."
        )
    space = _Space(tuple(sorted(set(num_numbers))), max_number, max_target, operators)
    excluded = set(exclude)
    seen: set[int] = set()
    problems: list[Problem] = []
    num_seen_before: deque[int] = deque(maxlen=GIVE_UP_BLOCKS)
    with closing(_blocks(seed, space, num_workers)) as blocks:
        for num_blocks, block in enumerate(blocks):
            if len(problems) >= num:
                break
            if len(num_seen_before) == GIVE_UP_BLOCKS and len(seen) - num_seen_before[0] < GIVE_UP_FOUND:
                raise _too_small(num, len(problems), num_blocks * BLOCK_CANDIDATES, space, len(excluded))
            num_seen_before.append(len(seen))
            for key, numbers, target in zip(*block, strict=True):
                if key not in seen:
                    seen.add(key)
                    problem = Problem(numbers, target)
                    if not excluded or problem.key not in excluded:
                        problems.append(problem)
    return problems[:num]


def generate_split(
    seed: int,
    num_train: int,
    num_eval: int,
    *,
    num_numbers: Collection[int] = (3, 4),
    max_number: int = 99,
    max_target: int = 99,
    operators: str = OPERATORS,
    num_workers: int = 1,
) -> tuple[list[Problem], list[Problem]]:
    """(train, eval), disjoint as canonical problems because both are cut from one list without repeats.

    The evaluation problems come first in that list: more training problems leave them as they are.
    """
    problems = generate(
        seed,
        num_train + num_eval,
        num_numbers=num_numbers,
        max_number=max_number,
        max_target=max_target,
        operators=operators,
        num_workers=num_workers,
    )
    return problems[num_eval:], problems[:num_eval]


def _blocks(seed: int, space: _Space, num_workers: int) -> Generator[_Block, None, None]:
    """Blocks 0, 1, 2, … without end."""
    if num_workers == 1:
        yield from (_block(seed, index, space) for index in count())
    # Spawned, not forked: the caller may hold threads.
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        ahead = deque(pool.submit(_block, seed, i, space) for i in range(num_workers * BLOCKS_AHEAD_PER_WORKER))
        next_index = len(ahead)
        try:
            while True:
                yield ahead.popleft().result()
                ahead.append(pool.submit(_block, seed, next_index, space))
                next_index += 1
        finally:
            pool.shutdown(cancel_futures=True)


def _block(seed: int, index: int, space: _Space) -> _Block:
    """Block `index` of `seed`: draws BLOCK_CANDIDATES candidates and keeps the usable ones."""
    largest = max(space.num_numbers)
    # Columns of raw 64-bit draws: the count, the numbers, then (first, second, operator) for each combination.
    # A remainder of 64 bits by a small n is uniform to better than one part in 10^15.
    bits = np.random.Philox(key=np.array([seed, index], dtype=np.uint64))
    draws_DC = bits.random_raw(BLOCK_CANDIDATES * (1 + largest + 3 * (largest - 1))).reshape(-1, BLOCK_CANDIDATES)
    counts_C = np.array(space.num_numbers)[(draws_DC[0] % len(space.num_numbers)).astype(np.int64)]
    numbers_CL = (draws_DC[1 : 1 + largest] % space.max_number).astype(np.int64).T + 1
    numbers_CL[np.arange(largest) >= counts_C[:, None]] = 0  # 0 pads the shorter ones: numbers are 1 or more
    targets_C = np.zeros(BLOCK_CANDIDATES, dtype=np.int64)
    for num_numbers in space.num_numbers:
        rows = np.flatnonzero(counts_C == num_numbers)
        targets_C[rows] = _combine(numbers_CL[rows, :num_numbers], draws_DC[1 + largest :, rows], space.operators)
    usable = np.flatnonzero((targets_C > 0) & (targets_C <= space.max_target))
    numbers_UL, targets_U = numbers_CL[usable], targets_C[usable]
    keys_U = np.zeros(len(usable), dtype=np.int64)
    for column_U in np.sort(numbers_UL, axis=1).T:
        keys_U = keys_U * (space.max_number + 1) + column_U
    keys_U = keys_U * (space.max_target + 1) + targets_U
    first = np.sort(np.unique(keys_U, return_index=True)[1])
    padded = zip(numbers_UL[first].tolist(), counts_C[usable][first].tolist(), strict=True)
    numbers_N = [tuple(numbers[:num_numbers]) for numbers, num_numbers in padded]
    return _Block(keys_U[first].tolist(), numbers_N, targets_U[first].tolist())


def _combine(numbers_RK: np.ndarray, draws_DR: np.ndarray, operators: str) -> np.ndarray:
    """The value of a random expression over each row's K numbers, 0 (never a target) where a division is not exact."""
    values_RK = numbers_RK.copy()
    rows_R = np.arange(len(values_RK))
    exact_R = np.ones(len(values_RK), dtype=bool)
    for step, num_left in enumerate(range(values_RK.shape[1], 1, -1)):
        first_R = (draws_DR[3 * step] % num_left).astype(np.int64)
        second_R = (draws_DR[3 * step + 1] % (num_left - 1)).astype(np.int64)
        second_R += second_R >= first_R  # uniform over ordered pairs of different places
        operator_R = draws_DR[3 * step + 2] % len(operators)
        left_R, right_R = values_RK[rows_R, first_R], values_RK[rows_R, second_R]
        divisor_R = np.where(right_R == 0, 1, right_R)
        results = {
            "+": left_R + right_R,
            "-": left_R - right_R,
            "*": left_R * right_R,
            "/": left_R // divisor_R,
        }
        values_RK[rows_R, first_R] = np.select(
            [operator_R == i for i in range(len(operators))], [results[operator] for operator in operators]
        )
        if "/" in operators:
            divides_R = operator_R == operators.index("/")
            exact_R &= ~divides_R | ((right_R != 0) & (left_R % divisor_R == 0))
        # The last value (which may be the result) moves into the place that became free.
        values_RK[rows_R, second_R] = np.where(
            second_R == num_left - 1, values_RK[rows_R, second_R], values_RK[:, num_left - 1]
        )
    return np.where(exact_R, values_RK[:, 0], 0)


def _too_small(num: int, num_found: int, num_candidates: int, space: _Space, num_excluded: int) -> UserError:
    less = f", besides {num_excluded:,} excluded ones" if num_excluded else ""
    return UserError(
        f"countdown: {num:,} problems wanted, but only {num_found:,} different ones were found in {num_candidates:,} "
        f"draws{less}: num_numbers {list(space.num_numbers)}, numbers 1-{space.max_number}, targets "
        f"1-{space.max_target}, operators {space.operators!r} hold hardly more. Ask for at most {num_found:,}, or "
        "raise max_number, max_target or num_numbers."
    )
