"""prepare_data: problems with a checked gold answer, from one source or several, filtered, split into train and eval.

In: what `source` names; `embedder`, a model of fetch_model, for `filters.similar` alone. Out: `problems.parquet`
(problem_id, split "train" or "eval", task "countdown", "math" or "reasoning_gym", prompt as chat messages, answer = the
gold, source, topic); `dropped.parquet` (source, row, filter, detail), every row of the sources that is not among the
problems, and why; `metrics.json` with the rows in and out of every filter, over all and per source.

Two problems count as the same when their canonical form is: sorted numbers and target for Countdown, else the question
with white space folded. Duplicates, and near duplicates where a recipe asks for them, are left out before the split, so
none of them stands in both splits. A gold that the verifier cannot read ends the stage here, where it can be mended, or
is dropped and counted, rather than being reward 0 later.

The sources are first turned into a pool on disk. Its rows are screened one by one, in parts that may be shared out;
then the kept ones are compared and drawn. The problems depend neither on the parts nor on the processes.

The filters are those of Open-Reasoner-Zero (arXiv:2503.24290) and, for benchmarks, of open-r1; tasks/core/curation says
where ours differ.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, field_validator

from tasks.core.curation.board import Board, details_of
from tasks.core.curation.draw import Drawn, draw
from tasks.core.curation.filters import Filters
from tasks.core.curation.publish import write_dropped, write_problems
from tasks.core.curation.reduce import drop_equal, drop_near, drop_similar
from tasks.core.curation.screening import screened
from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.core.main import main
from tasks.core.parts import Parts
from tasks.core.progress import Progress
from tasks.core.sources.config import Source
from tasks.core.sources.pool import Pool, build_pool
from tasks.core.sources.quotas import quotas_of, seeds_of
from tasks.core.stage import Input, Stage, StageConfig, operational
from tasks.core.stopping import Paused, stop_is_asked

NUM_EXAMPLES = 3
"""Golds that cannot be read, in the message that refuses them."""


class PrepareDataConfig(StageConfig):
    """Which problems, how many, how split."""

    source: Source
    """`kind` countdown or reasoning_gym for a generator, local for files, hub or modelscope for a published data set,
    mixture for several of these."""
    filters: Filters = Filters()
    """What is left out; nothing but unusable rows and exact duplicates when it is not given."""
    num_train: int | None = Field(ge=0)
    """Problems to learn from; null for all that are left."""
    num_eval: int = Field(ge=0)
    """Held-out problems; never in train, nor anything that counts as their duplicate."""
    seed: int = Field(ge=0)
    """Seeds the generators, the draw and the order, unless a source of a mixture has its own."""
    num_workers: int = operational(1)
    """Processes that generate and screen; the problems do not depend on it."""
    shard_size: int = operational(8192)
    """Rows per part (shard): held in memory at a time by each process, and what an interruption can cost."""

    @field_validator("num_workers", "shard_size")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value < 1:
            raise ValueError(f"{value} is not allowed: give 1 or more")
        return value

    def identity(self) -> dict[str, Any]:
        """As everywhere; what is read counts by its content, not by where it lies."""
        return super().identity() | {"source": self.source.identity(), "filters": self.filters.identity()}


class _Plan(NamedTuple):
    """The pool, its cut into parts, and the paths of the benchmarks' pools."""

    pool: Pool
    parts: Parts
    benchmarks: dict[str, Path]


def prepare_data(config: PrepareDataConfig, *, out: Path, embedder: Path | None = None) -> None:
    """Write `problems.parquet`, `dropped.parquet` and `metrics.json`; OUT/work holds pool and parts, and resumes.

    Raises UserError when there are fewer problems than asked for, none at all, or a gold that cannot be read, and
    Paused when OUT/stop asks for it.
    """
    plan = _plan(config, out, desk=out, embedder=embedder)
    _screen_missing(config, plan, plan.parts.numbers, desk=out)
    board = Board.load(plan.pool, plan.parts, config.filters.applied)
    if config.filters.bad_golds == "refuse":
        _refuse_bad_golds(board, plan.parts)
    _reduce(config, board, plan, out, embedder)
    drawn = draw(
        board,
        quotas_of(config.source, config.num_train, config.num_eval),
        seeds_of(config.source, config.seed),
        num_train=config.num_train,
        num_eval=config.num_eval,
        seed=config.seed,
    )
    write_problems(board, plan.pool, drawn.rows, drawn.splits, out / "problems.parquet", out / "work" / "buckets")
    write_dropped(board, plan.parts, out / "dropped.parquet")
    write_json(out / "metrics.json", _metrics(board, plan, drawn))


def share_screening(
    config: PrepareDataConfig, *, out: Path, share: tuple[int, int], desk: Path, embedder: Path | None = None
) -> None:
    """Commit the parts of share `share` = (index, number of shares) for `prepare_data` to find; raises what it does.

    How far it is, and whether to stop, stands in `desk`.
    """
    plan = _plan(config, out, desk=desk, embedder=embedder)
    _screen_missing(config, plan, plan.parts.of_share(*share), desk=desk)


def _plan(config: PrepareDataConfig, out: Path, *, desk: Path, embedder: Path | None) -> _Plan:
    """Build the pools that are not there yet and cut the rows."""
    if config.num_train == 0 and config.num_eval == 0:
        raise UserError("num_train and num_eval are both 0: ask for at least one problem.")
    if (config.filters.similar is None) != (embedder is None):
        raise UserError(
            "filters.similar needs the input `embedder`, a fetch_model stage, and nothing else does: give both or none."
        )
    work, decontaminate = out / "work", config.filters.decontaminate
    quotas = quotas_of(config.source, config.num_train, config.num_eval)
    pool = build_pool(config.source, work, desk, config.seed, quotas, num_workers=config.num_workers)
    benchmarks = {
        name: build_pool(source, work / "benchmarks", desk, 0, {}).path
        for name, source in (decontaminate.benchmarks if decontaminate else {}).items()
    }
    key = [pool.path.name, config.filters.identity()]
    parts = Parts.plan(work, key=key, size=config.shard_size, num_rows=pool.num_rows)
    return _Plan(pool, parts, benchmarks)


def _screen_missing(config: PrepareDataConfig, plan: _Plan, numbers: Sequence[int], *, desk: Path) -> None:
    """Screen those parts of `numbers` that are not committed, and commit what is found."""
    parts = plan.parts
    parts.drop_damaged(numbers)
    total, missing = parts.num_rows_of(numbers), parts.missing(numbers)
    num_kept = total - parts.num_rows_of(missing)
    if num_kept:
        print(f"{num_kept} of {total} rows are screened already", flush=True)
    cut = parts.cut(plan.pool.path, missing)
    with (
        Progress(desk, total, "rows") as progress,
        closing(screened(config.filters, plan.benchmarks, cut, config.num_workers)) as judged,
    ):
        progress.update(num_kept)
        for number, table in judged:
            parts.commit(number, table)
            progress.advance(table.num_rows)
            if stop_is_asked(desk) and progress.done < total:
                raise Paused(f"paused after {progress.done} of {total} rows, whose screening is kept")


def _reduce(config: PrepareDataConfig, board: Board, plan: _Plan, out: Path, embedder: Path | None) -> None:
    """Apply the filters that compare problems."""
    drop_equal(board)
    if config.filters.near_duplicates:
        drop_near(board, plan.parts, config.filters.near_duplicates, out / "work")
    if embedder:
        drop_similar(board, plan.pool, config.filters, embedder / "model", out)


def _refuse_bad_golds(board: Board, parts: Parts) -> None:
    rows = board.dropped("gold readable")
    if not len(rows):
        return
    some = rows[:NUM_EXAMPLES]
    examples = zip(some.tolist(), details_of(parts, some), strict=True)
    raise UserError(
        f"{len(rows)} gold answers cannot be read as mathematics, such as "
        f"{'; '.join(f'{board.place(row)}: {detail}' for row, detail in examples)}. Correct or remove them, set "
        "answer_after to the mark before the final answer, or set filters.bad_golds to drop to leave such rows out."
    )


def _metrics(board: Board, plan: _Plan, drawn: Drawn) -> dict[str, Any]:
    """The counts. `contaminated` counts a row for the benchmark that it was found in first."""
    found = Counter(detail.partition(":")[0] for detail in details_of(plan.parts, board.dropped("in no benchmark")))
    sources = {}
    for i, name in enumerate(board.names):
        splits = {"num_train": drawn.train, "num_eval": drawn.eval}
        counts = {key: int((board.sources_N[rows] == i).sum()) for key, rows in splits.items()}
        sources[name] = {**counts, "filters": board.funnel(i)}
    return {
        "num_train": len(drawn.train),
        "num_eval": len(drawn.eval),
        "filters": board.funnel(),
        "sources": sources,
        "contaminated": {name: found[name] for name in plan.benchmarks},
    }


STAGE = Stage(
    name="prepare_data",
    version=2,
    config=PrepareDataConfig,
    run=prepare_data,
    share=share_screening,
    inputs={"embedder": Input(accepts=("fetch_model", "train_sft", "train_grpo", "train_ppo"), optional=True)},
    libraries=("math-verify", "rensa"),
    memory_advice="lower num_workers or shard_size",
)

if __name__ == "__main__":
    main(STAGE)
