"""generate_traces: a teacher writes `num_traces` solutions of every training problem.

In: `problems.parquet` of prepare_data or select_problems, and for a teacher in process, or one that r1 serves, the
checkpoint of `model`. Out: `traces.parquet`, one row per trace, ordered by problem and sample, with problem_id, sample,
task, prompt (the problem's own: what only the teacher was told is not in it), answer (the gold), completion (all the
teacher wrote, thoughts included), finish_reason ("stop", "length" for one that was cut off, "error", else what the
endpoint said), num_tokens and num_prompt_tokens (the endpoint's counts; words and null for the solver), latency_s (0
for the solver), error (null; with finish_reason "error", why the request was refused), teacher_erred (audit only:
whether the solver erred on purpose, null for a model; nothing may train on it) and teacher; `metrics.json`.

This is the sampling half of rejection sampling in DeepSeek-R1, §2.3.3 (arXiv:2501.12948); verify_traces is the other
half. The teacher runs in a distilabel pipeline (tasks/core/teachers/pipeline.py). Every trace has a seed of its own,
made from (seed, problem, sample), and the work is cut into parts that are each committed at once, with a journal of
what is finished of the others: a run that was killed and started again, or whose parts were shared out to several
nodes, ends with the same rows as one that was not, and asks nothing twice but what was in flight.
(An endpoint may break that: it need not honour a seed.)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.core.main import main
from tasks.core.parts import Parts
from tasks.core.stage import Input, Stage, StageConfig, operational
from tasks.core.teachers.config import Teacher
from tasks.core.teachers.writing import Requests, Speed, cost_usd, write_completions


class GenerateTracesConfig(StageConfig):
    """What to ask, of whom, how often."""

    seed: int
    """Seeds every trace, together with its problem and sample."""
    teacher: Teacher
    """Who writes: `kind: solver` (a Countdown search), `openai` (a model behind an endpoint, or one that r1 serves
    with vLLM), `transformers` or `vllm` (the checkpoint of `model`, in process)."""
    num_traces: int = Field(gt=0)
    """Traces per problem (OpenR1-Math-220k: 2 to 4)."""
    num_problems: int | None = Field(default=None, gt=0)
    """Only the first so many problems of the split; all of them when left out."""
    split: str = "train"
    """The split the problems come from. "eval" is refused: what is evaluated on is never learnt from."""
    shard_size: int = operational(1000)
    """Traces per part (shard), the unit that is committed, and shared out."""
    num_workers: int = operational(1)
    """Parts written at the same time, each by a process of its own."""

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


def generate_traces(config: GenerateTracesConfig, *, out: Path, problems: Path, model: Path | None = None) -> None:
    """Write `traces.parquet` and `metrics.json` into `out`; OUT/work holds the parts and resumes.

    Raises UserError when the split is empty, the problems do not fit the teacher, or it refuses too much,
    TransientError when the endpoint is away, and Paused when OUT/stop asks for it. What is finished by then is kept.
    """
    requests = _plan_requests(config, problems / "problems.parquet")
    parts = _plan_parts(config, requests, out, model)
    speed = _write(config, requests, parts, parts.numbers, desk=out, scratch=out / "work" / "teacher", model=model)
    parts.concatenate(out / "traces.parquet")
    write_json(out / "metrics.json", _measure(config, out / "traces.parquet", speed))


def share_traces(
    config: GenerateTracesConfig,
    *,
    out: Path,
    share: tuple[int, int],
    desk: Path,
    problems: Path,
    model: Path | None = None,
) -> None:
    """Commit the parts of share `share` = (index, number of shares) for `generate_traces` to find; raises what it does.

    How far it is, and whether to stop, stands in `desk`.
    """
    requests = _plan_requests(config, problems / "problems.parquet")
    parts = _plan_parts(config, requests, out, model)
    _write(config, requests, parts, parts.of_share(*share), desk=desk, scratch=desk / "teacher", model=model)


def _plan_requests(config: GenerateTracesConfig, path: Path) -> Requests:
    """One request per trace to write, ordered by problem and sample."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: `problems` must point at the output of prepare_data.")
    requests = Requests(path, config.split, config.num_problems, config.num_traces, config.seed)
    if not len(requests):
        raise UserError(f"{path} has no problem with split {config.split!r}: there is nothing to write traces of.")
    other_tasks = sorted(requests.scan.tasks - {"countdown"})
    if config.teacher.kind == "solver" and other_tasks:
        raise UserError(
            f"teacher.kind is 'solver', which only solves countdown, but {path} also has the tasks "
            f"{', '.join(other_tasks)}: use teacher.kind 'openai', or problems of countdown only."
        )
    return requests


def _plan_parts(config: GenerateTracesConfig, requests: Requests, out: Path, model: Path | None) -> Parts:
    key = [config.identity(), requests.digest(), model.name if model else None]
    return Parts.plan(out / "work", key=key, size=config.shard_size, num_rows=len(requests))


def _write(
    config: GenerateTracesConfig,
    requests: Requests,
    parts: Parts,
    numbers: Sequence[int],
    *,
    desk: Path,
    scratch: Path,
    model: Path | None,
) -> Speed:
    """Have the teacher write those of `numbers` that are not committed."""
    where: dict[str, Path] = {"desk": desk, "scratch": scratch}
    local = model if config.teacher.kind in ("transformers", "vllm") else None
    return write_completions(
        config.teacher, requests, parts, numbers, num_workers=config.num_workers, unit="traces", model=local, **where
    )


def _measure(config: GenerateTracesConfig, path: Path, speed: Speed) -> dict[str, Any]:
    """Counts over all traces; `teacher_error_rate` is null for a teacher that does not know its errors, `cost_usd`
    for one without a price, and the time is that in which at least one run or share was at work."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = ["problem_id", "finish_reason", "num_tokens", "num_prompt_tokens", "teacher_erred", "teacher"]
    table = pq.read_table(path, columns=columns)
    num_tokens = pc.sum(table["num_tokens"]).as_py()
    num_prompt_tokens = pc.sum(table["num_prompt_tokens"]).as_py()
    return {
        "num_problems": pc.count_distinct(table["problem_id"]).as_py(),
        "num_traces": table.num_rows,
        "num_truncated": pc.sum(pc.equal(table["finish_reason"], "length")).as_py(),
        "num_failed": pc.sum(pc.equal(table["finish_reason"], "error")).as_py(),
        "num_tokens": num_tokens,
        "num_prompt_tokens": num_prompt_tokens,
        "mean_tokens": pc.mean(table["num_tokens"]).as_py(),
        "max_tokens": pc.max(table["num_tokens"]).as_py(),
        "teacher": table["teacher"][0].as_py(),
        "teacher_error_rate": pc.mean(table["teacher_erred"].cast("int8")).as_py(),
        "cost_usd": cost_usd(config.teacher, num_prompt_tokens or 0, num_tokens),
        "generation_wall_s": speed.wall_s,
        "tokens_per_s": speed.tokens_per_s,
    }


STAGE = Stage(
    name="generate_traces",
    version=2,
    config=GenerateTracesConfig,
    run=generate_traces,
    share=share_traces,
    inputs={
        "problems": Input(accepts=("prepare_data", "select_problems")),
        "model": Input(accepts=("fetch_model", "train_sft", "train_grpo", "train_ppo"), optional=True),
    },
    libraries=("distilabel",),
    memory_advice="lower num_workers, shard_size, teacher.max_concurrent or teacher.batch_size",
)

if __name__ == "__main__":
    main(STAGE)
