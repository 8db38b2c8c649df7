"""generate_traces: a teacher writes `num_traces` solutions of every training problem.

In: `problems.parquet` of prepare_data. Out: `traces.parquet`, one row per trace, ordered by problem and sample, with
problem_id, sample, task, prompt, answer (the gold), completion (all the teacher wrote, thoughts included),
finish_reason ("stop" or "length", else what the endpoint said), num_tokens (the endpoint's count; words for the
solver), latency_s (0 for the solver), teacher_erred (audit only: whether the solver erred on purpose, null for a
model; nothing may train on it) and teacher; `metrics.json`.

This is the sampling half of rejection sampling in DeepSeek-R1, §2.3.3 (arXiv:2501.12948); verify_traces is the other
half. The teacher runs in a distilabel pipeline (tasks/core/teachers/pipeline.py). Every trace has a seed of its own,
made from (seed, problem, sample), and the work is cut into shards that are each committed at once, so a run that was
killed and started again ends with the same rows as one that was not. (An endpoint may break that: it need not honour
a seed.)
"""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.core.main import main
from tasks.core.progress import Progress
from tasks.core.stage import Input, Stage, StageConfig, operational
from tasks.core.teachers.config import Teacher
from tasks.core.teachers.process import TeacherProcess
from tasks.core.teachers.shards import Shards, request_seed

POLL_EVERY_S = 0.2


class GenerateTracesConfig(StageConfig):
    """What to ask, of whom, how often."""

    seed: int
    """Seeds every trace, together with its problem and sample."""
    teacher: Teacher
    """Who writes: `kind: solver` (a Countdown search) or `kind: openai` (a model behind an endpoint)."""
    num_traces: int = Field(gt=0)
    """Traces per problem (OpenR1-Math-220k: 2 to 4)."""
    num_problems: int | None = Field(default=None, gt=0)
    """Only the first so many problems of the split; all of them when left out."""
    split: str = "train"
    """The split the problems come from. "eval" is refused: what is evaluated on is never learnt from."""
    shard_size: int = operational(1000)
    """Traces per shard, which is what an interruption can cost each worker."""
    num_workers: int = operational(1)
    """Shards written at the same time, each by a process of its own."""

    @field_validator("split")
    @classmethod
    def _refuse_eval_split(cls, split: str) -> str:
        if split == "eval":
            raise ValueError("split is 'eval': evaluation problems never become traces; use 'train'")
        return split

    @field_validator("shard_size", "num_workers")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value < 1:
            raise ValueError(f"{value} is not allowed: give at least 1")
        return value

    def identity(self) -> dict[str, Any]:
        """As everywhere; where the endpoint is and how hard it is pressed are not part of it."""
        return super().identity() | {"teacher": self.teacher.identity()}


def generate_traces(config: GenerateTracesConfig, *, out: Path, problems: Path) -> None:
    """Write `traces.parquet` and `metrics.json` into `out`; OUT/work holds the shards and resumes.

    Raises UserError when the split is empty, the problems do not fit the teacher, or the endpoint keeps failing.
    """
    requests = _read_requests(config, problems / "problems.parquet")
    key = hashlib.sha256(json.dumps([config.identity(), requests]).encode()).hexdigest()
    shards = Shards.plan(out / "work", requests, config.shard_size, key)
    wall_s = _write_missing(config, shards, out)
    shards.concatenate(out / "traces.parquet")
    write_json(out / "metrics.json", _measure(out / "traces.parquet") | wall_s)


def _read_requests(config: GenerateTracesConfig, path: Path) -> list[dict[str, Any]]:
    """One row per trace to write, ordered by problem and sample."""
    import pyarrow.parquet as pq

    columns = ["problem_id", "task", "prompt", "answer"]
    if not path.is_file():
        raise UserError(f"{path} does not exist: `problems` must point at the output of prepare_data.")
    rows = pq.read_table(path, columns=columns, filters=[("split", "=", config.split)]).to_pylist()
    if not rows:
        raise UserError(f"{path} has no problem with split {config.split!r}: there is nothing to write traces of.")
    other_tasks = sorted({row["task"] for row in rows} - {"countdown"})
    if config.teacher.kind == "solver" and other_tasks:
        raise UserError(
            f"teacher.kind is 'solver', which only solves countdown, but {path} also has the tasks "
            f"{', '.join(other_tasks)}: use teacher.kind 'openai', or problems of countdown only."
        )
    return [
        row | {"sample": sample, "seed": request_seed(config.seed, row["problem_id"], sample)}
        for row in rows[: config.num_problems]
        for sample in range(config.num_traces)
    ]


def _write_missing(config: GenerateTracesConfig, shards: Shards, out: Path) -> dict[str, float | None]:
    """Have the teacher write every shard that is not committed; returns this invocation's time and speed."""
    missing = shards.missing()
    num_kept = shards.num_committed()
    if num_kept:
        print(f"{num_kept} of {shards.num_requests} traces are committed already", flush=True)
    started = time.monotonic()
    with Progress(out, shards.num_requests, "traces") as progress:
        progress.update(num_kept)
        if missing:
            with TeacherProcess(shards.work, config.teacher.model_dump(mode="json"), config.num_workers) as teacher:
                while shards.missing() and teacher.is_running():
                    time.sleep(POLL_EVERY_S)
                    progress.update(shards.num_committed())
    if shards.missing():
        raise RuntimeError(f"distilabel ended without writing shards {shards.missing()}; its messages stand above")
    wall_s = time.monotonic() - started
    num_tokens = _count_tokens(shards, missing)
    return {"generation_wall_s": wall_s, "tokens_per_s": num_tokens / wall_s if missing else None}


def _count_tokens(shards: Shards, numbers: Sequence[int]) -> int:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    return sum(pc.sum(pq.read_table(shards.path(i), columns=["num_tokens"])["num_tokens"]).as_py() for i in numbers)


def _measure(path: Path) -> dict[str, Any]:
    """Counts over all traces; `teacher_error_rate` is null for a teacher that does not know its errors."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["problem_id", "finish_reason", "num_tokens", "teacher_erred", "teacher"])
    return {
        "num_problems": pc.count_distinct(table["problem_id"]).as_py(),
        "num_traces": table.num_rows,
        "num_truncated": pc.sum(pc.equal(table["finish_reason"], "length")).as_py(),
        "num_tokens": pc.sum(table["num_tokens"]).as_py(),
        "mean_tokens": pc.mean(table["num_tokens"]).as_py(),
        "max_tokens": pc.max(table["num_tokens"]).as_py(),
        "teacher": table["teacher"][0].as_py(),
        "teacher_error_rate": pc.mean(table["teacher_erred"].cast("int8")).as_py(),
    }


STAGE = Stage(
    name="generate_traces",
    version=1,
    config=GenerateTracesConfig,
    run=generate_traces,
    inputs={"problems": Input(accepts=("prepare_data",))},
    libraries=("distilabel",),
)

if __name__ == "__main__":
    main(STAGE)
