"""What a person sees: the plan, a live line per stage, the results. Plain lines when there is no terminal."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.build import Event
from flows.plan import Outlook, Plan

LINE_EVERY_S = 15.0
STYLES = {"cached": "cyan", "built": "green", "running": "yellow", "building": "yellow", "failed": "bold red"}


def print_plan(console: Console, plan: Plan, outlooks: Sequence[Outlook]) -> None:
    """The stages, what is cached, what will be built and why, and what that is likely to take."""
    table = Table(
        title=f"{plan.recipe.name}: {plan.recipe.description}", title_justify="left", box=None, pad_edge=False
    )
    for column in ("stage", "kind", "fingerprint", "state", "time"):
        table.add_column(column, no_wrap=column != "state")
    for outlook in outlooks:
        state = Text("cached", "cyan") if outlook.cached else Text("build", "yellow")
        if outlook.reason:
            state.append(f" ({outlook.reason})", "dim")
        took = "unknown" if outlook.seconds is None else duration(outlook.seconds)
        stage = outlook.stage
        time_text = Text(f"took {took}" if outlook.cached else f"about {took}" if outlook.seconds else took, "dim")
        table.add_row(stage.name, stage.spec.stage.name, stage.fingerprint, state, time_text)
    console.print(table)
    to_build = [outlook for outlook in outlooks if not outlook.cached]
    if not to_build:
        console.print(f"Nothing to build: all {len(outlooks)} stages are in the store.")
        return
    known = sum(outlook.seconds or 0.0 for outlook in to_build)
    num_unknown = sum(outlook.seconds is None for outlook in to_build)
    unknown = f" plus {num_unknown} never built here" if num_unknown else ""
    gpu_s = sum((outlook.seconds or 0.0) * outlook.stage.spec.resources.gpus for outlook in to_build)
    gpus = f", {gpu_s / 3600:.2f} GPU hours" if gpu_s else ""
    console.print(f"To build: {len(to_build)} of {len(outlooks)} stages, about {duration(known)}{gpus}{unknown}.")


def duration(seconds: float) -> str:
    """ "12.3 s", "4 min 05 s" or "2 h 10 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


class RunView:
    """Shows the events of a run: `with RunView(console, plan) as view: ... view.listen(event)`."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self.console = console
        self.rows: dict[str, Event | None] = {stage.name: None for stage in plan.stages}
        self.started: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self._line_at: dict[str, float] = {}
        self._live = (
            Live(get_renderable=self._table, console=console, refresh_per_second=4) if console.is_terminal else None
        )

    def listen(self, event: Event) -> None:
        """Take note of an event, from whichever thread."""
        if event.kind in ("waiting", "drifted"):
            self.console.print(f"{event.name}: {escape(event.text)}")
            return
        if event.kind == "building":
            self.started[event.name] = time.monotonic()
        elif event.kind != "running":
            self.ended[event.name] = time.monotonic()
        self.rows[event.name] = event
        if self._live is None:
            self._print_line(event)

    def _print_line(self, event: Event) -> None:
        now = time.monotonic()
        if event.kind == "running":
            if (
                not event.progress
                or now - self._line_at.get(event.name, self.started.get(event.name, now)) < LINE_EVERY_S
            ):
                return
            p = event.progress
            text = f"{p['done']}/{p['total']} {p['unit']} {p['note']}".rstrip()
        else:
            text = f"{event.kind} {event.text}".rstrip()
            text += f" in {duration(self._seconds(event.name))}" if event.kind == "built" else ""
        self._line_at[event.name] = now
        self.console.print(f"{event.name}: {escape(text)}", highlight=False)

    def _seconds(self, name: str) -> float:
        return self.ended.get(name, time.monotonic()) - self.started.get(name, time.monotonic())

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, event in self.rows.items():
            if event is None:
                table.add_row(Text(name, "dim"), Text("waiting", "dim"))
                continue
            seconds = duration(self._seconds(name)) if name in self.started else ""
            progress = event.progress if event.kind == "running" else None
            bar = ProgressBar(total=progress["total"], completed=progress["done"], width=24) if progress else ""
            note = (
                f"{progress['done']}/{progress['total']} {progress['unit']} {progress['note']}"
                if progress
                else event.text
            )
            kind = "running" if event.kind == "building" else event.kind
            table.add_row(
                name, Text(kind, STYLES.get(event.kind, "")), seconds, bar, Text(note, "dim", overflow="ellipsis")
            )
        return table

    def __enter__(self) -> "RunView":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()


def print_results(console: Console, plan: Plan, result: dict[str, Any], wall_s: float) -> None:
    """Accuracy with its interval for every evaluation, then what was built and where the report is."""
    stages = result["stages"]
    table = Table(box=None, pad_edge=False)
    for column in (
        "evaluation",
        "benchmark",
        "accuracy",
        "95 % interval",
        "questions x samples",
        "mean tokens",
        "truncated",
    ):
        table.add_column(column)
    for stage in plan.stages:
        m = stages[stage.name]["metrics"]
        if stage.spec.stage.name == "evaluate":
            interval = f"{m['accuracy_low']:.1%} to {m['accuracy_high']:.1%}"
            size = f"{m['num_questions']} x {m['num_samples']}"
            lengths = (f"{m['mean_tokens']:.1f}", f"{m['truncation_rate']:.1%}")
            table.add_row(stage.name, str(m["benchmark"]), f"{m['accuracy']:.1%}", interval, size, *lengths)
    if table.row_count:
        console.print(table)
    num_built = sum(not one["cached"] for one in stages.values())
    built = (
        f"Built {num_built} of {len(stages)} stages"
        if num_built
        else f"Nothing was built: all {len(stages)} stages came from the store"
    )
    console.print(f"{built}; {duration(wall_s)}. Run {result['run_id']}.")
    if result["report"]:
        console.print(f"Report: {result['report']}", soft_wrap=True)
