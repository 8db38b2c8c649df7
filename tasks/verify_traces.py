"""verify_traces: keep the traces whose answer is right, at most so many per problem (rejection sampling).

In: `traces.parquet` of generate_traces. Out: `verdicts.parquet`, every trace with its verdict, tier, reason and the
answer that was judged; `traces.parquet`, the kept ones, same columns, in the order of the input; `metrics.json` with
the verdicts counted and the traces that go into and come out of every filter.

DeepSeek-R1, §2.3.3 (arXiv:2501.12948): "we sample multiple responses and retain only the correct ones". Departures:
the paper also drops mixed languages, long paragraphs and code, we do not; we drop equal texts and texts that were cut
off, even after a right answer, and can cap the number per problem.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator

from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.core.main import main
from tasks.core.progress import Progress
from tasks.core.stage import Input, Stage, StageConfig, operational
from tasks.core.verdict import Verdict
from tasks.core.verifier import Verifier

BATCH_SIZE = 2000
"""Traces judged and held in memory at a time."""
EXAMPLE_LENGTH = 600
"""Characters of a completion that an error message shows."""


class VerifyTracesConfig(StageConfig):
    """Which of the right traces to keep."""

    max_per_problem: int = Field(gt=0)
    """Most traces kept per problem."""
    select: Literal["shortest", "first", "random"]
    """Which ones, where more are right: by num_tokens, in the order of sampling, or drawn with `seed`."""
    seed: int
    """Seeds `select: random`; without effect on the other two."""
    timeout_s: float = operational(5.0)
    """Longest time for one verdict; beyond it the verdict is `timeout`, which is counted in the metrics."""
    num_workers: int = operational(1)
    """Processes that judge."""
    memory_gb: float = operational(2.0)
    """Most memory of one of them."""

    @field_validator("timeout_s", "num_workers", "memory_gb")
    @classmethod
    def _positive(cls, value: float) -> float:
        if value <= 0:
            raise ValueError(f"{value} is not allowed: give more than 0")
        return value


class Judged(NamedTuple):
    """What the filters need to know of one trace."""

    row: int
    problem_id: str
    is_right: bool
    is_cut_off: bool
    text_hash: int
    num_tokens: int


def verify_traces(config: VerifyTracesConfig, *, out: Path, traces: Path) -> None:
    """Write `verdicts.parquet`, `traces.parquet` and `metrics.json` into `out`.

    Raises UserError when there is no trace, or none can be kept.
    """
    import pyarrow.parquet as pq

    path = traces / "traces.parquet"
    if not path.is_file():
        raise UserError(f"{path} does not exist: `traces` must point at the output of generate_traces.")
    num_traces = pq.read_metadata(path).num_rows
    if not num_traces:
        raise UserError(f"{path} holds no trace: there is nothing to verify.")
    judged, verdicts = _judge_all(config, path, out)
    kept, filters = _filter(config, judged)
    if not kept:
        raise UserError(_none_kept(judged, verdicts, path, out / "verdicts.parquet"))
    _write_rows(out / "verdicts.parquet", {trace.row for trace in kept}, out / "traces.parquet")
    metrics = {
        "num_traces": num_traces,
        "num_kept": len(kept),
        "num_problems": len({trace.problem_id for trace in judged}),
        "num_problems_kept": len({trace.problem_id for trace in kept}),
        "mean_tokens_kept": sum(trace.num_tokens for trace in kept) / len(kept),
        "verdicts": dict(sorted(verdicts.items())),
        "filters": filters,
    }
    write_json(out / "metrics.json", metrics)


def _judge_all(config: VerifyTracesConfig, path: Path, out: Path) -> tuple[list[Judged], Counter[str]]:
    """Judge every trace of `path` into OUT/verdicts.parquet, batch by batch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    added = [(name, pa.string()) for name in ("verdict", "tier", "reason", "judged_answer")]
    schema = pa.schema([*file.schema_arrow, *(pa.field(*column) for column in added)])
    judged: list[Judged] = []
    verdicts: Counter[str] = Counter()
    with (
        Verifier(num_workers=config.num_workers, timeout_s=config.timeout_s, memory_gb=config.memory_gb) as verifier,
        Progress(out, file.metadata.num_rows, "traces") as progress,
        pq.ParquetWriter(out / "verdicts.parquet", schema) as writer,
    ):
        for batch in file.iter_batches(BATCH_SIZE):
            rows = batch.to_pylist()
            _judge(verifier, rows)
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            judged += [_summarize(len(judged) + i, row) for i, row in enumerate(rows)]
            verdicts.update(row["verdict"] for row in rows)
            num_right = sum(verdicts[verdict] for verdict in Verdict if verdict.is_right)
            progress.advance(len(rows), f"{num_right / len(judged):.0%} right")
    return judged, verdicts


def _judge(verifier: Verifier, rows: list[dict[str, Any]]) -> None:
    """Add the verdict's columns to `rows`."""
    judgements = verifier.judge(
        [row["task"] for row in rows],
        [row["answer"] for row in rows],
        [row["completion"] for row in rows],
        [row["finish_reason"] == "length" for row in rows],
    )
    for row, judgement in zip(rows, judgements, strict=True):
        row |= {"verdict": judgement.verdict.value, "tier": judgement.tier, "reason": judgement.reason}
        row["judged_answer"] = judgement.answer


def _summarize(index: int, row: dict[str, Any]) -> Judged:
    return Judged(
        row=index,
        problem_id=row["problem_id"],
        is_right=Verdict(row["verdict"]).is_right,
        is_cut_off=row["finish_reason"] == "length",
        text_hash=hash(row["completion"]),
        num_tokens=row["num_tokens"],
    )


def _filter(config: VerifyTracesConfig, judged: list[Judged]) -> tuple[list[Judged], list[dict[str, Any]]]:
    """Apply the filters in turn; returns what is kept, in order, and how many went in and out of each."""
    steps: list[tuple[str, Callable[[list[Judged]], list[Judged]]]] = [
        ("right answer", lambda traces: [trace for trace in traces if trace.is_right]),
        ("not cut off", lambda traces: [trace for trace in traces if not trace.is_cut_off]),
        ("distinct text per problem", _drop_duplicates),
        (f"{config.max_per_problem} {config.select} per problem", lambda traces: _select(config, traces)),
    ]
    filters = []
    for name, step in steps:
        num_in, judged = len(judged), step(judged)
        filters.append({"name": name, "num_in": num_in, "num_out": len(judged)})
    return judged, filters


def _drop_duplicates(traces: list[Judged]) -> list[Judged]:
    """Keep the first of equal texts of one problem (equal 64-bit hashes, to hold no text in memory)."""
    return list({(trace.problem_id, trace.text_hash): trace for trace in reversed(traces)}.values())[::-1]


def _select(config: VerifyTracesConfig, traces: list[Judged]) -> list[Judged]:
    by_problem: dict[str, list[Judged]] = defaultdict(list)
    for trace in traces:
        by_problem[trace.problem_id].append(trace)
    kept: list[Judged] = []
    for problem_id, group in by_problem.items():
        if config.select == "shortest":
            group.sort(key=lambda trace: (trace.num_tokens, trace.row))
        elif config.select == "random":
            random.Random(f"{config.seed}:{problem_id}").shuffle(group)
        kept += group[: config.max_per_problem]
    return sorted(kept)


def _write_rows(source: Path, rows: set[int], path: Path) -> None:
    """Copy the rows with these indices, in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, pq.read_schema(source)) as writer:
        for start, batch in _batches(source):
            is_kept = pa.array([start + i in rows for i in range(batch.num_rows)], pa.bool_())
            writer.write_batch(batch.filter(is_kept))


def _batches(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields (index of the first row, record batch)."""
    import pyarrow.parquet as pq

    start = 0
    for batch in pq.ParquetFile(path).iter_batches(BATCH_SIZE):
        yield start, batch
        start += batch.num_rows


def _none_kept(judged: list[Judged], verdicts: Counter[str], path: Path, verdicts_path: Path) -> str:
    """Why a run stops here: the counts, and one trace to look at."""
    counts = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common())
    num_cut_off = sum(trace.is_cut_off for trace in judged)
    _, batch = next(_batches(verdicts_path))
    row = batch.slice(0, 1).to_pylist()[0]
    text = row["completion"]
    shown = text if len(text) <= EXAMPLE_LENGTH else f"{text[: EXAMPLE_LENGTH // 2]} … {text[-EXAMPLE_LENGTH // 2 :]}"
    return (
        f"None of the {len(judged)} traces in {path} is both right and complete ({counts}; {num_cut_off} cut off by "
        f"the length limit), so there is nothing to train on. The first one, of problem {row['problem_id']}, is "
        f"{row['verdict']} ({row['reason'] or 'no reason given'}): the gold is {row['answer']}, the answer read from "
        f"it {row['judged_answer']!r}, the text {shown!r}. Every verdict is in {verdicts_path}. Usual causes: a prompt "
        "that does not ask for the answer's format, a max_new_tokens that cuts every trace off, a teacher too weak for "
        "these problems."
    )


STAGE = Stage(
    name="verify_traces",
    version=1,
    config=VerifyTracesConfig,
    run=verify_traces,
    inputs={"traces": Input(accepts=("generate_traces",))},
    libraries=("math-verify",),
)

if __name__ == "__main__":
    main(STAGE)
