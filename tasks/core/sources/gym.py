"""reasoning-gym's generators as a source.

An answer is JSON {"dataset", "options", "entry"}: all that reasoning-gym's score function needs, so that the verifier
can ask it. Many of its problems have more than one right answer, and some have no answer of their own.

reasoning-gym seeds problem i with seed + i, so neighbouring seeds give nearly the same problems, shifted; the stage's
seed is therefore hashed first.
"""

import difflib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from tasks.core.errors import UserError
from tasks.core.sources.config import ReasoningGymSource, missing_extra
from tasks.core.sources.mapping import flaw_of
from tasks.core.sources.quotas import Quota
from tasks.core.sources.rows import Batch, PoolRow, chat, flawed, folded
from tasks.core.spelling import nearest
from tasks.core.verifier.gym_worker import packed

TASK = "reasoning_gym"
BATCH = 256
NUM_NEAREST = 5
DRAWS_PER_PROBLEM = 20  # so many draws for each problem wanted, and MIN_DRAWS, end the search for different ones
MIN_DRAWS = 2_000


def gym_batches(source: ReasoningGymSource, seed: int, quota: Quota) -> Iterator[Batch[PoolRow]]:
    """`quota` problems, no question twice, evaluation first: more training problems leave those as they are.

    Raises UserError for an unknown data set or option, or one that holds fewer different problems.
    """
    assert quota.num_train is not None and quota.num_eval is not None
    wanted = quota.num_train + quota.num_eval
    num_draws = max(MIN_DRAWS, DRAWS_PER_PROBLEM * wanted)
    dataset = _created(source, _hashed(seed), num_draws)
    keys: set[str] = set()
    rows: list[PoolRow] = []
    for draw in range(num_draws):
        if len(keys) == wanted:
            break
        row = _row(dataset[draw], source, "eval" if len(keys) < quota.num_eval else "train")
        if row.key not in keys:
            keys.add(row.key)
            rows.append(row)
        if len(rows) == BATCH:
            yield Batch(rows, len(keys) / wanted)
            rows = []
    if rows:
        yield Batch(rows, 1.0)
    if len(keys) < wanted:
        raise UserError(
            f"reasoning_gym: {wanted:,} problems of {source.dataset} wanted, but only {len(keys):,} different ones "
            f"were found in {num_draws:,} draws: ask for fewer, or widen options."
        )


def _created(source: ReasoningGymSource, seed: int, size: int) -> Any:
    """reasoning-gym's data set. Raises UserError for an unknown name or option, naming the nearest ones."""
    try:
        from reasoning_gym import create_dataset
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise missing_extra("kind: reasoning_gym", "reasoning-gym") from error
    if source.dataset not in DATASETS:
        close = difflib.get_close_matches(source.dataset, DATASETS, n=NUM_NEAREST, cutoff=0.4)
        hint = f"; nearest: {', '.join(close)}" if close else ""
        raise UserError(f"reasoning_gym has no dataset {source.dataset!r} among its {len(DATASETS)}{hint}.")
    known = sorted({field.name for field in fields(DATASETS[source.dataset][1])} - {"seed", "size"})
    for option in source.options:
        if option not in known:
            hint = nearest(option, known)
            raise UserError(f"{source.dataset} has no option {option!r}; it has {', '.join(known) or 'none'}{hint}.")
    try:
        return create_dataset(source.dataset, seed=seed, size=size, **source.options)
    except (AssertionError, TypeError, ValueError) as error:  # how it refuses values
        raise UserError(f"{source.dataset} refuses options {source.options}: {error}.") from error


def _row(entry: dict[str, Any], source: ReasoningGymSource, split: str) -> PoolRow:
    question = entry["question"]
    gold = {"dataset": source.dataset, "options": source.options, "entry": packed(entry)}
    answer = json.dumps(gold, ensure_ascii=False)
    for name, text in (("question", question), ("answer", answer)):
        if flaw := flaw_of(text):
            return flawed(TASK, f"{name} {flaw}")
    prompt = chat(source.system_prompt, question)
    return PoolRow(TASK, question, answer, source.dataset, prompt, folded(question), None, split)


def _hashed(seed: int) -> int:
    """31 bits: seed + i must fit NumPy's 32."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4]) >> 1
