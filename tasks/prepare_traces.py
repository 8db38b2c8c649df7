"""prepare_traces: published traces, or worked solutions, as traces to fine-tune on.

In: a data set of traces; `problems`, if its eval split must not be trained on. Out: `traces.parquet` with the columns
problem_id, task ("text": nothing has verified them), prompt, completion and source, in the order of the data set;
`dropped.parquet`, each row that was left out: source, row, the filter that dropped it, detail; `metrics.json` with the
rows that go into and come out of every filter, and why rows were no trace at all (`unusable`).

Nothing is judged here: such sets come filtered (Open R1's OpenR1-Math-220k and Mixture-of-Thoughts, s1K) or are right
by hand (GSM8K's own solutions, where rejection sampling fine-tuning starts: RFT, arXiv:2308.01825). For traces of one's
own teacher there are generate_traces and verify_traces.

It is one pass, and of a trace that is done with only a hash is held in memory; texts of about 32 million characters are
at a time. What is interrupted starts over.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from tasks.core.curation.candidates import copy_rows
from tasks.core.curation.filters import Decontaminate
from tasks.core.curation.trace_screen import TraceScreen
from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.core.main import main
from tasks.core.progress import Progress
from tasks.core.sources.read import read_rows
from tasks.core.sources.trace_config import LocalTraces, TraceSource
from tasks.core.sources.trace_table import TraceTable
from tasks.core.stage import Input, Stage, StageConfig
from tasks.core.teachers.prompts import system_prompt_text
from tasks.core.trace_files import TraceWriter, drawn_rows

MAX_REASONS = 20
"""Reasons why rows are no trace, in the metrics."""


class TraceFilters(StageConfig):
    """What is left out besides rows that are no trace, and a trace that has been there already."""

    decontaminate: Decontaminate | None = None
    """Traces whose question is in a benchmark, as a whole or by an n-gram."""
    max_chars: int | None = Field(default=None, ge=1)
    """The longest completion that is kept, in characters."""

    def identity(self) -> dict[str, Any]:
        """What is set, with the benchmarks' content in place of their paths."""
        identity = self.model_dump(mode="json", exclude_none=True, exclude={"decontaminate"})
        return identity | ({"decontaminate": self.decontaminate.identity()} if self.decontaminate else {})


class PrepareTracesConfig(StageConfig):
    """Which traces, how many."""

    source: TraceSource
    """`kind` local for files, hub or modelscope for a published data set, and the columns that make a trace."""
    system_prompt: str | None = None
    """A system message before each question, in the place of the data's own: text, or r1_english, r1_chinese,
    r1_zero_english or r1_zero_chinese. The data's own stays when this is left out."""
    filters: TraceFilters = TraceFilters()
    """What is left out."""
    num_traces: int | None = Field(ge=1)
    """How many to draw from what is left; null for all."""
    seed: int = Field(ge=0)
    """Seeds the draw."""

    @field_validator("system_prompt")
    @classmethod
    def _known_prompt(cls, text: str | None) -> str | None:
        return system_prompt_text(text)

    def identity(self) -> dict[str, Any]:
        """As everywhere; what is read counts by its content, not by where it lies."""
        return super().identity() | {"source": self.source.identity(), "filters": self.filters.identity()}


def prepare_traces(config: PrepareTracesConfig, *, out: Path, problems: Path | None = None) -> None:
    """Write `traces.parquet`, `dropped.parquet` and `metrics.json`.

    Raises UserError when the source cannot be read, or fewer traces are left than asked for, or none.
    """
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    screen = TraceScreen(config.filters.decontaminate, config.filters.max_chars, problems, work=work, desk=out)
    name = config.source.kind if isinstance(config.source, LocalTraces) else config.source.dataset
    with (
        TraceWriter(work / "kept.parquet", out / "dropped.parquet", name) as writer,
        Progress(out, 100, "% of the source read") as progress,
    ):
        for batch in read_rows(config.source, TraceTable(config.source, config.system_prompt)):
            for one in screen.judge(batch.rows):
                writer.add(one)
            progress.update(min(99, int(100 * batch.fraction_read)), f"{writer.num_kept:,} traces kept")
    filters = _funnel(screen, writer)
    num_kept = writer.num_kept
    if num_kept < (config.num_traces or 1):
        raise UserError(_too_few(config, name, filters, writer.reasons))
    rows = drawn_rows(num_kept, config.num_traces, str(config.seed))
    copy_rows(work / "kept.parquet", set(rows), out / "traces.parquet")
    (work / "kept.parquet").unlink()
    metrics = {
        "num_traces": len(rows),
        "mean_chars_before": writer.num_chars / num_kept,
        "filters": [*filters, {"name": "taken", "num_in": num_kept, "num_out": len(rows)}],
        "unusable": dict(writer.reasons.most_common(MAX_REASONS)),
    }
    if config.filters.decontaminate:
        metrics["contaminated"] = {name: writer.contaminated[name] for name in config.filters.decontaminate.benchmarks}
    write_json(out / "metrics.json", metrics)


def _funnel(screen: TraceScreen, writer: TraceWriter) -> list[dict[str, Any]]:
    """{name, num_in, num_out} of each filter."""
    filters, num_left = [], writer.num_rows
    for name in screen.applied:
        filters.append({"name": name, "num_in": num_left, "num_out": num_left - writer.dropped[name]})
        num_left -= writer.dropped[name]
    return filters


def _too_few(config: PrepareTracesConfig, name: str, filters: list[dict[str, Any]], reasons: Mapping[str, int]) -> str:
    counts = ", ".join(f"{one['name']}: {one['num_in']} -> {one['num_out']}" for one in filters)
    most = max(reasons, key=lambda reason: reasons[reason], default=None)
    flaw = f" Most unusable rows: {most} ({reasons[most]})." if most is not None else ""
    asked = "at least one is needed" if config.num_traces is None else f"num_traces asks for {config.num_traces}"
    return (
        f"{name} gives {filters[-1]['num_out']} traces ({counts}), but {asked}.{flaw} dropped.parquet in the working "
        "directory of the stage lists every row that was left out."
    )


STAGE = Stage(
    name="prepare_traces",
    version=1,
    config=PrepareTracesConfig,
    run=prepare_traces,
    inputs={"problems": Input(accepts=("prepare_data", "select_problems"), optional=True)},
)

if __name__ == "__main__":
    main(STAGE)
