"""Traces on their way to disk: few in memory, whatever their number."""

import random
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.core.curation.screen import key_hash
from tasks.core.curation.trace_screen import BENCHMARK, USABLE, Screened
from tasks.core.sources.rows import folded

TASK = "text"
MAX_DETAIL_CHARS = 300
MAX_ROWS = 8_192
MAX_CHARS = 32_000_000
ROWS_PER_FILE, MAX_FILES = 2_048, 256


class TraceWriter:
    """Writes screened traces of one source: the kept ones to one Parquet file, the dropped ones to another.

    `source` is the source's name. Counts: `num_kept` and `num_chars` of their completions, `dropped` by filter,
    `reasons` of rows that are no trace, `contaminated` by benchmark.
    """

    def __init__(self, kept: Path, dropped: Path, source: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text = pa.string()
        details = pa.schema([("source", text), ("row", pa.int64()), ("filter", text), ("detail", text)])
        self.source, self.num_rows, self.num_kept, self.num_chars = source, 0, 0, 0
        self.dropped: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.contaminated: Counter[str] = Counter()
        self._stack = ExitStack()
        self._kept = _Rows(self._stack.enter_context(pq.ParquetWriter(kept, trace_schema())), trace_schema())
        self._dropped = _Rows(self._stack.enter_context(pq.ParquetWriter(dropped, details)), details)

    def add(self, one: Screened) -> None:
        """The next row of the source."""
        if one.filter is None:
            trace = one.trace
            problem_id = f"{TASK}-{key_hash(folded(trace.question)):016x}"
            row = (problem_id, TASK, list(trace.prompt), trace.completion, self.source)
            self._kept.add(row, len(trace.completion) + sum(len(message["content"]) for message in trace.prompt))
            self.num_kept += 1
            self.num_chars += len(trace.completion)
        else:
            self._dropped.add((self.source, self.num_rows, one.filter, one.detail[:MAX_DETAIL_CHARS] or None), 0)
            self.dropped[one.filter] += 1
            self.reasons.update([one.detail] if one.filter == USABLE else [])
            self.contaminated.update([one.detail.partition(":")[0]] if one.filter == BENCHMARK else [])
        self.num_rows += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                self._kept.flush()
                self._dropped.flush()


class _Rows:
    """Rows for one file, written a group at a time."""

    def __init__(self, writer: Any, schema: Any) -> None:
        self.writer, self.schema = writer, schema
        self.rows: list[tuple[Any, ...]] = []
        self.num_chars = 0

    def add(self, row: tuple[Any, ...], num_chars: int) -> None:
        self.rows.append(row)
        self.num_chars += num_chars
        if len(self.rows) == MAX_ROWS or self.num_chars > MAX_CHARS:
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa

        columns: Sequence[Any] = list(zip(*self.rows, strict=True)) or [[] for _ in self.schema]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self.schema, strict=True)]
        self.writer.write_table(pa.table(arrays, schema=self.schema))
        self.rows, self.num_chars = [], 0


def trace_schema() -> Any:
    """The pyarrow Schema of traces that nothing has verified."""
    import pyarrow as pa

    text = pa.string()
    message = pa.struct([("role", text), ("content", text)])
    columns = {"problem_id": text, "task": text, "prompt": pa.list_(message), "completion": text, "source": text}
    return pa.schema(columns)


def write_at(places_N: Any, batches: Iterable[Any], path: Path, scratch: Path) -> None:
    """Write the rows of `batches`, pyarrow RecordBatches, to `path` in a new order: row i at places_N[i], -1: left out.

    The places are 0 up to the number of rows that are written. The rows are dealt to files of rows that will be near
    each other, and then each file is sorted: the memory is that of one batch and one file. `scratch` is a directory to
    use.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    num_rows = int(places_N.max(initial=-1)) + 1
    size = max(ROWS_PER_FILE, -(-num_rows // MAX_FILES))
    files = [scratch / f"{i:03}.arrow" for i in range(-(-num_rows // size))]
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    start, schema = 0, None
    with ExitStack() as stack:
        writers: list[Any] = []
        for batch in batches:
            if schema is None:
                schema = batch.schema
                placed = schema.append(pa.field("place", pa.int64()))
                writers = [stack.enter_context(pa.ipc.new_file(str(file), placed)) for file in files]
            places = places_N[start : start + batch.num_rows]
            start += batch.num_rows
            for i in np.unique(places[places >= 0] // size).tolist():
                rows = np.flatnonzero(places // size == i)
                columns = [*batch.take(pa.array(rows)).columns, pa.array(places[rows], pa.int64())]
                writers[i].write_batch(pa.record_batch(columns, schema=placed))
    with pq.ParquetWriter(path, schema) as writer:
        for file in files:
            with pa.OSFile(str(file)) as source, pa.ipc.open_file(source) as reader:
                table = reader.read_all()
            writer.write_table(table.take(np.argsort(table["place"].to_numpy())).drop_columns("place"))
    shutil.rmtree(scratch)


def drawn_rows(num_rows: int, num_wanted: int | None, seed: str) -> list[int]:
    """`num_wanted` of the numbers 0 to `num_rows` - 1 in ascending order, all of them for None.

    With the same seed more of them include fewer of them.
    """
    if num_wanted is None:
        return list(range(num_rows))
    return sorted(shuffled(num_rows, seed)[:num_wanted])


def shuffled(num_rows: int, seed: str) -> list[int]:
    """The numbers 0 to `num_rows` - 1 in an order drawn from the seed."""
    order = list(range(num_rows))
    random.Random(seed).shuffle(order)
    return order
