"""One pool of rows on disk from whatever the source is: the same columns for every kind, streamed, memory flat.

POOL.parquet's columns, in the order of the sources and of their rows:

- source (string): the source's name, from `quotas.sources_of`; row (int64): the row's number in its source, from 0;
- task (string): "math", "countdown" or "reasoning_gym", as the verifier knows them;
- question, answer (string): "" when missing; topic (string or null);
- prompt (list<struct<role: string, content: string>>): the chat messages as they will be published, [] with a flaw;
- key (string): the canonical problem: numbers and target for Countdown, else the question with white space folded;
  "" with a flaw;
- flaw (string or null): why the row cannot be used at all, such as "question holds a NUL character"; question and
  answer are "" then;
- split (string or null): "train" or "eval" from a generator, null for rows that are split later.

A row that is wrong has a flaw; a file that is wrong (not to be read, a column missing or of another type) is a
UserError. The same source, seed and quotas give the same bytes.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.progress import Progress
from tasks.core.sources.config import CountdownSource, MixtureSource, ReasoningGymSource
from tasks.core.sources.countdown_table import CountdownTable
from tasks.core.sources.mapping import MathTable
from tasks.core.sources.quotas import OneSource, Quota, as_key, seeds_of, sources_of
from tasks.core.sources.read import read_rows
from tasks.core.sources.rows import Batch, PoolRow

NamedBatch = tuple[str, Batch[PoolRow]]  # with its source's name
ROWS_PER_GROUP = 8_192
CHARS_PER_GROUP = 32_000_000


@dataclass(frozen=True)
class Pool:
    """A pool on disk: a Parquet file with the columns above, and the names of its sources in order."""

    path: Path
    num_rows: int
    names: tuple[str, ...]


def pool_schema() -> Any:
    """The pyarrow Schema of a pool."""
    import pyarrow as pa

    text, message = pa.string(), pa.struct([("role", pa.string()), ("content", pa.string())])
    columns = {"source": text, "row": pa.int64(), "task": text, "question": text, "answer": text, "topic": text}
    return pa.schema({**columns, "prompt": pa.list_(message), "key": text, "flaw": text, "split": text})


def build_pool(
    source: OneSource | MixtureSource,
    work: Path,
    desk: Path,
    seed: int,
    quotas: Mapping[str, Quota],
    *,
    num_workers: int = 1,
) -> Pool:
    """The pool of `source` in the directory `work`, or the one that is there already.

    `quotas` is `quotas_of(source, num_train, num_eval)`: generators make as many rows as theirs says, the training
    split first; files are read whole, whatever it says. `seed` is the stage's. `num_workers` processes generate
    Countdown problems; no row depends on it. progress.json goes to `desk`. A pool is whole or absent, and several
    processes may build it at once.

    Raises UserError when a source cannot be read or gives no rows or too few, TransientError when a hub is away.
    """
    names, seeds = tuple(sources_of(source)), seeds_of(source, seed)
    key = json.dumps([source.identity(), seeds, as_key(quotas)], sort_keys=True)
    path = work / f"pool-{hashlib.sha256(key.encode()).hexdigest()[:20]}.parquet"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        with Progress(desk, 100 * len(names), "% of sources read") as progress:
            batches = (
                (name, batch)
                for name, one in sources_of(source).items()
                for batch in _not_empty(
                    name, _batches(one, seeds[name], quotas.get(name, Quota(None, None)), num_workers)
                )
            )
            _write(path, batches, names, progress)
    return Pool(path, _num_rows(path), names)


def _batches(source: OneSource, seed: int, quota: Quota, num_workers: int) -> Iterator[Batch[PoolRow]]:
    """The rows of one source, in order."""
    if isinstance(source, CountdownSource):
        from tasks.core.sources.generated import countdown_batches

        return countdown_batches(source, seed, quota, num_workers)
    if isinstance(source, ReasoningGymSource):
        from tasks.core.sources.gym import gym_batches

        return gym_batches(source, seed, quota)
    return read_rows(source, CountdownTable(source) if source.task == "countdown" else MathTable(source))


def _not_empty(name: str, batches: Iterator[Batch[PoolRow]]) -> Iterator[Batch[PoolRow]]:
    num_rows = 0
    for batch in batches:
        num_rows += len(batch.rows)
        yield batch
    if num_rows == 0:
        raise UserError(f"source {name!r} holds no rows.")


def _write(path: Path, batches: Iterable[NamedBatch], names: tuple[str, ...], progress: Progress) -> None:
    """Write the pool beside its place, sync, rename."""
    import pyarrow.parquet as pq

    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")  # process ids repeat from node to node
    with partial.open("wb") as file:
        with pq.ParquetWriter(file, pool_schema()) as writer:
            for group in _groups(batches, names, progress):
                writer.write_table(_table(group))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


Placed = tuple[str, int, PoolRow]


def _groups(batches: Iterable[NamedBatch], names: tuple[str, ...], progress: Progress) -> Iterator[list[Placed]]:
    """(source, row number, row) in groups that bound the memory by rows and by characters."""
    group: list[Placed] = []
    num_chars, numbers = 0, dict.fromkeys(names, 0)
    for name, batch in batches:
        for row in batch.rows:
            group.append((name, numbers[name], row))
            numbers[name] += 1
            num_chars += len(row.question) + len(row.answer)
            if len(group) == ROWS_PER_GROUP or num_chars > CHARS_PER_GROUP:
                yield group
                group, num_chars = [], 0
        percent = 100 * names.index(name) + int(100 * batch.fraction_read)
        progress.update(min(percent, progress.total - 1), f"{name}: {numbers[name]:,} rows")
    if group:
        yield group


def _table(group: list[Placed]) -> Any:
    """The pyarrow Table of a group. Prompts are built flat: ten times faster than from lists of dicts."""
    import pyarrow as pa

    names, numbers, rows = zip(*group, strict=True)
    tasks, questions, answers, topics, prompts, keys, flaws, splits = zip(*rows, strict=True)
    starts = [0]
    for prompt in prompts:
        starts.append(starts[-1] + len(prompt))
    flat = [message for prompt in prompts for message in prompt]
    roles, contents = (pa.array([message[part] for message in flat], pa.string()) for part in ("role", "content"))
    messages = pa.StructArray.from_arrays([roles, contents], ["role", "content"])
    column = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), messages)
    columns = [names, numbers, tasks, questions, answers, topics, column, keys, flaws, splits]
    schema = pool_schema()
    return pa.table([pa.array(one, field.type) for one, field in zip(columns, schema, strict=True)], schema=schema)


def _num_rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows
