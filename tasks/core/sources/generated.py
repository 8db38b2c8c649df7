"""Countdown as a source: the same problems in the same splits whatever else is in the pool."""

from collections.abc import Iterator

from tasks.core.countdown.problems import Problem, generate_split
from tasks.core.countdown.prompts import PROMPT_STYLES
from tasks.core.sources.config import CountdownSource
from tasks.core.sources.countdown_table import pool_row
from tasks.core.sources.quotas import Quota
from tasks.core.sources.rows import Batch, PoolRow

BATCH = 8_192


def countdown_batches(source: CountdownSource, seed: int, quota: Quota, num_workers: int) -> Iterator[Batch[PoolRow]]:
    """`quota` problems, train first; a longer train list leaves the evaluation problems as they are.

    Raises UserError when the space does not hold so many.
    """
    assert quota.num_train is not None and quota.num_eval is not None
    splits = generate_split(
        seed,
        quota.num_train,
        quota.num_eval,
        num_numbers=source.num_numbers,
        max_number=source.max_number,
        max_target=source.max_target,
        operators=source.operators,
        num_workers=num_workers,
    )
    both = [(split, problem) for split, some in zip(("train", "eval"), splits, strict=True) for problem in some]
    for start in range(0, len(both), BATCH):
        rows = [_row(problem, split, source) for split, problem in both[start : start + BATCH]]
        yield Batch(rows, min(1.0, (start + BATCH) / len(both)))


def _row(problem: Problem, split: str, source: CountdownSource) -> PoolRow:
    prompt = PROMPT_STYLES[source.prompt](problem.numbers, problem.target)
    return pool_row(problem, prompt, split)
