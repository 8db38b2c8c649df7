"""The Prefect flow `reproduce`: one task per stage of a recipe, run as soon as what it reads is there.

This is the one place where a stage becomes a Prefect task. A stage that the store has ends in the state `Cached`;
Prefect's own cache is off, because the store is the truth. What Prefect keeps of a stage is its small record.
"""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import wait as wait_for_futures
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from prefect import Task, flow, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectConcurrentFuture
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, State
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console
from rich.text import Text

from flows.build import Builder, Built, Event, Listener, StageFailed, Stopped, cores_per_stage
from flows.guard import start_guard
from flows.launch import default_jobs, make_launcher
from flows.ledger import Ledger
from flows.plan import Plan, PlannedStage, look_ahead, make_plan, only_for, refuse_unknown_stages
from flows.preflight import preflight
from flows.recipe import load_recipe
from flows.smoke import smoke as in_small
from flows.view import RunView
from slurm.job import RETRIES, TRY_AGAIN, Cause, Launcher
from tasks.core.store import Store, check_writable, store_root

RETRY_DELAY_S = 10
TERMINAL: ContextVar[Console | None] = ContextVar("TERMINAL", default=None)
"""Where the flows show what they do; None: in their logs."""

Futures = dict[str, PrefectConcurrentFuture[Any]]


class RunFailed(Exception):
    """Stages failed; `failures` holds the exception of each, in the recipe's order."""

    def __init__(self, failures: list[BaseException]) -> None:
        self.failures = failures
        super().__init__("\n".join(str(failure) for failure in failures))


class Paused(Exception):
    """The run was asked to save and end: stages that were running go on from there in the next run."""


@flow(name="reproduce", validate_parameters=False)
def reproduce(
    recipe: str,
    overrides: list[str] | None = None,
    store: str | None = None,
    rebuild: list[str] | None = None,
    jobs: int | None = None,
    launch: str = "local",
    cluster: str | None = None,
    smoke: bool = False,
    until: list[str] | None = None,
) -> dict[str, Any]:
    """Run a recipe: `recipe` is its name or path, `overrides` are --set texts, `jobs` how many stages run at a time.

    `launch` is "local" or "slurm", `cluster` a profile's name or path, `smoke` a run in miniature, `until` the stages
    to build with all that they read, as in `r1 run`.
    Returns {"run_id", "report": path or None, "stages": {name: {"fingerprint", "cached", "metrics"}}}.
    """
    root = store_root(store)
    check_writable(root)
    read = load_recipe(recipe, overrides or ())
    plan = only_for(make_plan(in_small(read, root)[0] if smoke else read), until or ())
    refuse_unknown_stages(plan, rebuild or ())
    launcher = make_launcher(launch, cluster, plan)
    with _shown(plan) as listen:
        for warning in preflight(plan, look_ahead(plan, Store(root), frozenset(rebuild or ())), Store(root), launch):
            listen(Event(plan.recipe.name, "warning", warning))
        start_guard(root, launch, cluster)
        return run_plan(plan, Store(root), launcher, listen, frozenset(rebuild or ()), jobs, [])


@contextmanager
def _shown(plan: Plan) -> Iterator[Listener]:
    """A live line per stage on TERMINAL where there is one, else lines in the flow's log."""
    if (terminal := TERMINAL.get()) is None:
        yield _log_events(get_run_logger().info)
        return
    terminal.print(Text(" ".join([plan.recipe.name, *plan.recipe.overrides]), "bold"), soft_wrap=True)
    with RunView(terminal, plan) as view:
        yield view.listen


def run_plan(
    plan: Plan,
    store: Store,
    launcher: Launcher,
    listen: Listener,
    rebuild: frozenset[str],
    jobs: int | None,
    argv: list[str],
    pause: threading.Event | None = None,
) -> dict[str, Any]:
    """Build every stage of `plan` inside a running flow, `jobs` at a time; returns what `reproduce` returns.

    A stage that fails takes those that read it with it, no others. Cancelling (Ctrl-C, SIGTERM, Prefect) ends the jobs,
    and the run's record says so. Setting `pause` has the running stages save and end. Raises RunFailed and Paused.
    """
    jobs = jobs or default_jobs(plan, launcher)
    ledger = Ledger(store, plan, argv)
    builder = Builder(
        plan=plan,
        store=store,
        launcher=launcher,
        run_of=lambda: ledger.run,
        listen=listen,
        rebuild=rebuild,
        num_cpus=cores_per_stage(jobs),
        pause=pause or threading.Event(),
    )
    futures: Futures = {}
    try:
        with ThreadPoolTaskRunner(max_workers=len(plan.stages)) as runner:
            try:
                _run_stages(runner, builder, ledger, jobs, futures)
            finally:  # after an interrupt: the threads end their jobs before this one goes on
                builder.stop.set()
                wait_for_futures([future.wrapped_future for future in futures.values()])
    except BaseException:
        ledger.end("cancelled")
        raise
    return _conclude(plan, ledger, futures)


def _run_stages(
    runner: ThreadPoolTaskRunner[Any], builder: Builder, ledger: Ledger, jobs: int, futures: Futures
) -> None:
    """Start every stage once what it reads has ended, well or not: Prefect marks those that cannot run `NotReady`.

    Handing all to the runner at once would let stages that only wait take the place of stages that could run.
    """
    waiting = list(builder.plan.stages)
    while waiting and not builder.pause.is_set():
        running = [future.wrapped_future for future in futures.values() if not future.wrapped_future.done()]
        ready = next((stage for stage in waiting if _has_ended(stage.upstream, futures)), None)
        if ready is None or len(running) >= jobs:
            wait_for_futures(running, return_when=FIRST_COMPLETED)
            continue
        waiting.remove(ready)
        needed = [futures[name] for name in ready.upstream]
        futures[ready.name] = runner.submit(_as_task(ready, builder, ledger), parameters={}, wait_for=needed)
    wait_for_futures([future.wrapped_future for future in futures.values()])


def _has_ended(names: tuple[str, ...], futures: Futures) -> bool:
    return all(name in futures and futures[name].wrapped_future.done() for name in names)


def _as_task(stage: PlannedStage, builder: Builder, ledger: Ledger) -> Task[[], State[Any]]:
    """The building of one stage as a Prefect task of its own name.

    Only what ended with exit code 75 is tried again, as often as its cause deserves: a crash or a user's mistake would
    happen again, and whatever is tried again resumes from its last checkpoint.
    """

    def build_stage() -> State[Any]:
        return _build_stage(stage, builder, ledger)

    return task(
        build_stage,
        name=stage.spec.stage.name,
        task_run_name=stage.name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=max(RETRIES.values()),
        retry_delay_seconds=RETRY_DELAY_S,
        retry_condition_fn=_may_work_again,
    )


def _build_stage(stage: PlannedStage, builder: Builder, ledger: Ledger) -> State[Any]:
    """Build one stage, publish its metrics as a Prefect artifact, and end in `Cached`, `Completed` or `Cancelled`."""
    try:
        if builder.stop.is_set():
            raise Stopped
        ledger.set_stage(stage.name, "running")
        built = builder.build(stage)
    except Stopped:
        ledger.set_stage(stage.name, "cancelled")
        return Cancelled(message="stopped; what was done is kept, and the next run goes on from there")
    except BaseException:
        ledger.set_stage(stage.name, "failed")
        raise
    ledger.set_stage(stage.name, "cached" if built.cached else "built", built.wall_s)
    _publish_metrics(built)
    message = f"{built.stage}/{built.fingerprint}" + (" from the store" if built.cached else f", {built.wall_s:.1f} s")
    return Completed(name="Cached" if built.cached else "Completed", message=message, data=_small(built))


def _may_work_again(task: Any, task_run: Any, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    if not isinstance(error, StageFailed) or error.end.exit_code != TRY_AGAIN:
        return False
    return bool(task_run.run_count <= RETRIES.get(error.end.cause or Cause.TRANSIENT, 0))


def _small(built: Built) -> dict[str, Any]:
    return {
        "fingerprint": built.fingerprint,
        "path": str(built.path),
        "cached": built.cached,
        "wall_s": built.wall_s,
        "metrics": built.metrics,
    }


def _publish_metrics(built: Built) -> None:
    """A table in Prefect's UI; for the report a link as well."""
    rows = [{"metric": key, "value": value} for key, value in built.metrics.items() if isinstance(value, int | float)]
    key = re.sub(r"[^a-z0-9]+", "-", built.name.lower()).strip("-")
    create_table_artifact(key=f"metrics-{key}", table=rows, description=f"{built.stage}/{built.fingerprint}")
    if built.stage == "report":
        create_link_artifact(key=f"report-{key}", link=(built.path / "report.html").as_uri())


def _conclude(plan: Plan, ledger: Ledger, futures: Futures) -> dict[str, Any]:
    """Close the run's record; raise what failed, or Paused when something was left undone; else sum the run up."""
    for future in futures.values():
        future.wait()  # has ended already; from now on `state` is what the stage returned, with its exception
    failures = [future.state.result(raise_on_failure=False) for future in futures.values() if future.state.is_failed()]
    is_done = len(futures) == len(plan.stages) and all(future.state.is_completed() for future in futures.values())
    ledger.end("failed" if failures else "done" if is_done else "cancelled")
    if failures:
        raise RunFailed(failures)
    if not is_done:
        raise Paused
    stages = {stage.name: futures[stage.name].result() for stage in plan.stages}
    reports = [stages[stage.name]["path"] for stage in plan.stages if stage.spec.stage.name == "report"]
    report = str(Path(reports[-1]) / "report.html") if reports else None
    return {"run_id": ledger.run.run_id, "report": report, "stages": stages}


def _log_events(log: Callable[[str], None]) -> Listener:
    """A listener for a worker's log: a line when a stage changes its state or its place, none while it just runs."""
    places: dict[str, str] = {}

    def listen(event: Event) -> None:
        place = event.place if event.kind == "running" else ""
        if event.kind != "running" or place != places.get(event.name, ""):
            log(f"{event.name}: {event.kind} {event.text}".rstrip())
        places[event.name] = place

    return listen
