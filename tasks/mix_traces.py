"""mix_traces: traces of several stages as one set, in a new order.

In: `traces`, `more` and perhaps `more_2`, artifacts of stages that write traces. Out: `traces.parquet` with problem_id,
task, prompt, completion, source (the data set's name, null where the stage keeps none) and input (the name of the
input); `metrics.json` with the rows that go into and come out of every filter, and per input.

A trace, by its messages and its text, that stands in several inputs or twice in one counts once, for the first.
DeepSeek-R1, §2.3.3 (arXiv:2501.12948): about 600,000 rejection-sampled reasoning traces and about 200,000 others.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from tasks.core.curation.trace_screen import trace_hash
from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.core.main import main
from tasks.core.progress import Progress
from tasks.core.spelling import nearest
from tasks.core.stage import Input, Stage, StageConfig
from tasks.core.trace_files import drawn_rows, shuffled, trace_schema, write_at

NAMES = ("traces", "more", "more_2")
BATCH_ROWS = 1_024


class MixTracesConfig(StageConfig):
    """How many of which."""

    num_traces: dict[str, int | None]
    """{input: how many of its traces are drawn}, null for all; every input that is given is named."""
    seed: int = Field(ge=0)
    """Seeds the draw and the order."""

    @field_validator("num_traces")
    @classmethod
    def _known_inputs(cls, num_traces: dict[str, int | None]) -> dict[str, int | None]:
        for name, number in num_traces.items():
            if name not in NAMES:
                raise ValueError(f"{name!r} is no input{nearest(name, NAMES)}: they are {', '.join(NAMES)}")
            if number is not None and number < 1:
                raise ValueError(f"{name}: {number} is not allowed: give 1 or more, or null for all")
        return num_traces


def mix_traces(config: MixTracesConfig, *, out: Path, traces: Path, more: Path, more_2: Path | None = None) -> None:
    """Write `traces.parquet` and `metrics.json`.

    Raises UserError when num_traces and the inputs do not fit, or an input gives fewer traces than asked for.
    """
    import numpy as np

    given = {"traces": traces, "more": more} | ({"more_2": more_2} if more_2 else {})
    _check_names(config.num_traces, given)
    files = {name: path / "traces.parquet" for name, path in given.items()}
    seen: set[bytes] = set()
    chosen, counts = [], {}
    with Progress(out, 2 * sum(map(_num_rows, files.values())), "traces") as progress:
        for name, file in files.items():
            unique = _unique_rows(file, seen, progress)
            drawn = drawn_rows(len(unique), config.num_traces[name], f"{config.seed}-{name}")
            counts[name] = {"num_in": _num_rows(file), "num_unique": len(unique), "num_traces": len(drawn)}
            if len(drawn) < (config.num_traces[name] or 1):
                raise UserError(_too_few(name, config.num_traces[name], file, counts[name]))
            is_drawn_N = np.zeros(_num_rows(file), bool)
            is_drawn_N[[unique[i] for i in drawn]] = True
            chosen.append(is_drawn_N)
        is_chosen_N = np.concatenate(chosen)
        places_N = np.full(len(is_chosen_N), -1)
        places_N[is_chosen_N] = shuffled(int(is_chosen_N.sum()), f"{config.seed}-order")
        write_at(places_N, _batches(files, progress), out / "traces.parquet", out / "work" / "dealt")
    write_json(out / "metrics.json", _metrics(counts))


def _check_names(num_traces: Mapping[str, int | None], given: Mapping[str, Path]) -> None:
    if missing := [name for name in given if name not in num_traces]:
        raise UserError(f"num_traces names no {' and no '.join(missing)}: say how many of it, null for all.")
    if extra := [name for name in num_traces if name not in given]:
        raise UserError(
            f"num_traces names {', '.join(extra)}, which is no input of this stage: give it, or leave it out."
        )
    for name, path in given.items():
        if not (path / "traces.parquet").is_file():
            raise UserError(f"{path / 'traces.parquet'} does not exist: `{name}` must point at a stage with traces.")


def _unique_rows(file: Path, seen: set[bytes], progress: Progress) -> list[int]:
    """The numbers of the rows that are not in `seen` yet; they are added to it."""
    import pyarrow.parquet as pq

    unique, row = [], 0
    parquet = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
    for batch in parquet.iter_batches(BATCH_ROWS, columns=["prompt", "completion"]):
        for one in batch.to_pylist():
            key = trace_hash(one["prompt"], one["completion"])
            if key not in seen:
                seen.add(key)
                unique.append(row)
            row += 1
        progress.advance(batch.num_rows)
    return unique


def _batches(files: Mapping[str, Path], progress: Progress) -> Iterator[Any]:
    """The rows of all files with the columns that are written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = trace_schema().append(pa.field("input", pa.string()))
    for name, path in files.items():
        file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        columns = [column for column in trace_schema().names if column in file.schema_arrow.names]
        for batch in file.iter_batches(BATCH_ROWS, columns=columns):
            table = pa.Table.from_batches([batch])
            if "source" not in columns:
                table = table.append_column("source", pa.nulls(batch.num_rows, pa.string()))
            table = table.append_column("input", pa.array([name] * batch.num_rows)).select(schema.names).cast(schema)
            yield from table.combine_chunks().to_batches()
            progress.advance(batch.num_rows)


def _too_few(name: str, wanted: int | None, file: Path, count: Mapping[str, int]) -> str:
    asked = "at least one is needed" if wanted is None else f"num_traces.{name} asks for {wanted}"
    return (
        f"{file} holds {count['num_in']} traces, {count['num_unique']} of which stand nowhere before, but {asked}: "
        f"lower num_traces.{name}, or set it to null for all."
    )


def _metrics(counts: dict[str, dict[str, int]]) -> dict[str, Any]:
    num_in, num_unique, num_traces = (
        sum(count[key] for count in counts.values()) for key in ("num_in", "num_unique", "num_traces")
    )
    filters = [
        {"name": "unique", "num_in": num_in, "num_out": num_unique},
        {"name": "taken", "num_in": num_unique, "num_out": num_traces},
    ]
    return {"num_traces": num_traces, "filters": filters, "inputs": counts}


def _num_rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


_TRACES = ("verify_traces", "select_traces", "prepare_traces", "mix_traces")

STAGE = Stage(
    name="mix_traces",
    version=1,
    config=MixTracesConfig,
    run=mix_traces,
    inputs={
        "traces": Input(accepts=_TRACES),
        "more": Input(accepts=_TRACES),
        "more_2": Input(accepts=_TRACES, optional=True),
    },
)

if __name__ == "__main__":
    main(STAGE)
