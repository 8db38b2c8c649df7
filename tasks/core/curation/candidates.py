"""Traces as select_traces weighs them: what it needs to know of each, and the filters that come before its draw."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tasks.core.curation.difficulty import Attempts
from tasks.core.curation.quality import COLUMNS, Check, passes
from tasks.core.progress import Progress
from tasks.core.verdict import Verdict

BATCH_SIZE = 1000
"""Traces held in memory at a time; one may have 100 KB."""

Filters = list[dict[str, Any]]
"""{name, num_in, num_out} of each filter."""


class Candidate(NamedTuple):
    """What the filters need to know of one trace. `row` is its row in the pool."""

    row: int
    problem_id: str
    is_right: bool
    num_tokens: int


def read_candidates(checks: Sequence[Check], pool: Path, out: Path) -> tuple[list[Candidate], Filters]:
    """The traces of the pool that pass, and the counts of every check."""
    import pyarrow.parquet as pq

    candidates: list[Candidate] = []
    failed: Counter[Check] = Counter()
    columns = ["problem_id", "verdict", "num_tokens", *COLUMNS]
    with Progress(out, pq.read_metadata(pool).num_rows, "traces") as progress:
        for start, batch in batches(pool, columns):
            for index, row in enumerate(batch.to_pylist()):
                first = next((check for check in checks if not passes(check, row)), None)
                if first:
                    failed[first] += 1
                else:
                    is_right = Verdict(row["verdict"]).is_right
                    candidates.append(Candidate(start + index, row["problem_id"], is_right, row["num_tokens"]))
            progress.advance(batch.num_rows)
    filters, left = [], len(candidates) + failed.total()
    for check in checks:
        filters.append({"name": check, "num_in": left, "num_out": left - failed[check]})
        left -= failed[check]
    return candidates, filters


def hard_enough(
    candidates: Sequence[Candidate],
    attempts: Mapping[str, Attempts],
    *,
    max_pass_rate: float,
    unsampled: Literal["keep", "drop"],
) -> list[Candidate]:
    """Those whose problem a model solves in at most `max_pass_rate` of its judged samples; `unsampled` says what
    becomes of a problem that has none."""

    def stays(candidate: Candidate) -> bool:
        rate = attempts.get(candidate.problem_id, Attempts()).pass_rate
        return unsampled == "keep" if rate is None else rate <= max_pass_rate

    return [candidate for candidate in candidates if stays(candidate)]


def one_per_problem(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Of each problem's traces a right one before a wrong one, then the longest, then the earliest."""
    best: dict[str, Candidate] = {}
    for one in candidates:
        rival = best.get(one.problem_id)
        if rival is None or (one.is_right, one.num_tokens) > (rival.is_right, rival.num_tokens):
            best[one.problem_id] = one
    return sorted(best.values())


def batches(path: Path, columns: list[str] | None = None) -> Iterator[tuple[int, Any]]:
    """Yields (index of the first row, record batch)."""
    import pyarrow.parquet as pq

    start = 0
    file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)  # else it reads far ahead
    for batch in file.iter_batches(BATCH_SIZE, columns=columns):
        yield start, batch
        start += batch.num_rows


def copy_rows(source: Path, rows: set[int], path: Path) -> None:
    """Copy the rows with these indices, in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, pq.read_schema(source)) as writer:
        for start, batch in batches(source):
            writer.write_batch(batch.filter(pa.array([start + i in rows for i in range(batch.num_rows)], pa.bool_())))
