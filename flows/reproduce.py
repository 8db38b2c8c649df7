"""The Prefect flow `reproduce`: one task per stage of a recipe, run as soon as what it reads is there.

This is the one place where a stage becomes a Prefect task. A stage that the store has ends in the state `Cached`;
Prefect's own cache is off, because the store is the truth. What Prefect keeps of a stage is its small record.
"""

import os
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from prefect import Task, flow, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.logging import get_run_logger
from prefect.states import Completed, State
from prefect.task_runners import ThreadPoolTaskRunner

from flows.build import Builder, Built, Listener, StageFailed, Stopped, refuse_unknown_stages
from flows.plan import Plan, PlannedStage, make_plan
from flows.recipe import load_recipe
from slurm.job import TRY_AGAIN
from slurm.local import LocalLauncher
from tasks.core.store import Run, RunStage, Store, check_writable, store_root

StageState = Literal["running", "cached", "built", "failed", "cancelled"]
RETRIES, RETRY_DELAY_S = 2, 10


class Ledger:
    """Keeps run.json of one run up to date, from whichever thread."""

    def __init__(self, store: Store, plan: Plan, argv: list[str]) -> None:
        self.store, self._lock = store, Lock()
        recipe = plan.recipe
        stages = [
            RunStage(
                name=stage.name,
                stage=stage.spec.stage.name,
                fingerprint=stage.fingerprint,
                inputs={key: x if isinstance(x, str) else list(x) for key, x in stage.spec.inputs.items()},
            )
            for stage in plan.stages
        ]
        now = datetime.now(UTC)
        self.run = Run(
            run_id=f"{recipe.name}-{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}",
            recipe=recipe.name,
            recipe_path=str(recipe.path),
            recipe_text=recipe.text,
            overrides=list(recipe.overrides),
            seed=recipe.seed,
            argv=argv,
            started_at=now.isoformat(timespec="seconds"),
            stages=stages,
        )
        store.write_run(self.run)

    def set_stage(self, name: str, state: StageState, wall_s: float = 0.0) -> None:
        """Record what became of a stage."""
        with self._lock:
            stages = [
                one.model_copy(update={"state": state, "wall_s": wall_s}) if one.name == name else one
                for one in self.run.stages
            ]
            self.run = self.run.model_copy(update={"stages": stages})
            self.store.write_run(self.run)

    def end(self, state: Literal["done", "failed", "cancelled"]) -> None:
        """Record how the run ended."""
        with self._lock:
            ended_at = datetime.now(UTC).isoformat(timespec="seconds")
            self.run = self.run.model_copy(update={"state": state, "ended_at": ended_at})
            self.store.write_run(self.run)


@flow(name="reproduce", validate_parameters=False)
def reproduce(
    recipe: str,
    overrides: list[str] | None = None,
    store: str | None = None,
    rebuild: list[str] | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Run a recipe: `recipe` is its name or path, `overrides` are --set texts, `jobs` how many stages run at a time.

    Returns {"run_id", "report": path or None, "stages": {name: {"fingerprint", "cached", "metrics"}}}.
    """
    logger = get_run_logger()
    plan = make_plan(load_recipe(recipe, overrides or ()))
    return run_plan(plan, Store(store_root(store)), _log_events(logger.info), frozenset(rebuild or ()), jobs, [])


def run_plan(
    plan: Plan, store: Store, listen: Listener, rebuild: frozenset[str], jobs: int, argv: list[str]
) -> dict[str, Any]:
    """Build every stage of `plan` inside a running flow; cancelling ends the jobs, and the run's record says so."""
    refuse_unknown_stages(plan, rebuild)
    check_writable(store.root)
    ledger = Ledger(store, plan, argv)
    builder = Builder(
        plan=plan,
        store=store,
        launcher=LocalLauncher(),
        run_of=lambda: ledger.run,
        listen=listen,
        rebuild=rebuild,
        num_cpus=max(1, (os.cpu_count() or 1) // jobs),
    )
    futures: dict[str, PrefectFuture[Any]] = {}
    with ThreadPoolTaskRunner(max_workers=jobs) as runner:
        try:
            for stage in plan.stages:
                needed = [futures[name] for name in stage.upstream]
                parameters = {"builder": builder, "stage": stage, "ledger": ledger}
                futures[stage.name] = runner.submit(_as_task(stage), parameters=parameters, wait_for=needed)
            wait(list(futures.values()))
        except BaseException:  # Ctrl-C, or Prefect's SIGTERM: the threads end their jobs before this one goes on
            builder.stop.set()
            wait(list(futures.values()))
            ledger.end("cancelled")
            raise
    return _conclude(plan, ledger, futures)


def _as_task(stage: PlannedStage) -> Task[..., Any]:
    """`build_stage` as a Prefect task of its own name.

    Only what ended with exit code 75 is tried again: a crash or a user's mistake would happen again, and whatever is
    tried again resumes from its last checkpoint.
    """
    return task(
        build_stage,
        name=stage.spec.stage.name,
        task_run_name=stage.name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=RETRIES,
        retry_delay_seconds=RETRY_DELAY_S,
        retry_condition_fn=_may_work_again,
    )


def build_stage(builder: Builder, stage: PlannedStage, ledger: Ledger) -> State[Any]:
    """Build one stage, publish its metrics as a Prefect artifact, and end in `Cached` or `Completed`."""
    if builder.stop.is_set():
        raise Stopped(stage.name)
    ledger.set_stage(stage.name, "running")
    try:
        built = builder.build(stage)
    except BaseException as error:
        ledger.set_stage(stage.name, "cancelled" if isinstance(error, Stopped) else "failed")
        raise
    ledger.set_stage(stage.name, "cached" if built.cached else "built", built.wall_s)
    _publish_metrics(built)
    message = f"{built.stage}/{built.fingerprint}" + (" from the store" if built.cached else f", {built.wall_s:.1f} s")
    return Completed(name="Cached" if built.cached else "Completed", message=message, data=_small(built))


def _may_work_again(task: Any, task_run: Any, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageFailed) and error.end.exit_code == TRY_AGAIN


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


def _conclude(plan: Plan, ledger: Ledger, futures: dict[str, PrefectFuture[Any]]) -> dict[str, Any]:
    """Close the run's record; raise the first failure, else return the run's summary."""
    failed = [future.state for future in futures.values() if not future.state.is_completed()]
    ledger.end("failed" if failed else "done")
    if failed:
        failed[0].result()  # raises what the stage raised
    stages = {name: future.result() for name, future in futures.items()}
    reports = [stages[stage.name]["path"] for stage in plan.stages if stage.spec.stage.name == "report"]
    report = str(Path(reports[-1]) / "report.html") if reports else None
    return {"run_id": ledger.run.run_id, "report": report, "stages": stages}


def _log_events(log: Callable[[str], None]) -> Listener:
    """A listener for a worker's log: a line when a stage changes its state, none while it just runs."""
    return lambda event: None if event.kind == "running" else log(f"{event.name}: {event.kind} {event.text}".rstrip())
