"""The other seeds: finished runs in the store of the same recipe with the same overrides, but for the seed.

The report draws them beside its own run. They are not part of its identity: a report shows the seeds that the store had
when it was built, and `r1 run RECIPE --rebuild report` brings it up to date.
"""

from pathlib import Path
from typing import Any

from flows.recipe_yaml import read_value
from tasks.core.store import DamagedRecord, Run, Store, read_record
from tasks.core.store.nights import read_nights


def find_siblings(store: Store, run: Run) -> list[dict[str, Any]]:
    """One entry a seed, by seed: {"seed", "run_id", "metrics" of its report, "histories" {stage name: history.jsonl}}.

    Of several runs with one seed the newest counts. Runs whose report is gone or damaged are left out.
    """
    found: dict[int, dict[str, Any]] = {}
    for other in store.readable_runs():  # newest first
        if other.state != "done" or other.recipe != run.recipe or other.seed in (None, run.seed, *found):
            continue
        if _settings(other) != _settings(run):
            continue
        entry = _entry(store, other)
        if entry is not None and other.seed is not None:
            found[other.seed] = entry
    return [found[seed] for seed in sorted(found)]


def find_nights(store: Store, run: Run) -> list[dict[str, Any]]:
    """The ledger's nights of the run's recipe, without what a plot does not need."""
    nights, _ = read_nights(store.root)
    bulky = {"identities", "packages", "hardware", "e_values", "overrides"}
    return [
        night.model_dump(mode="json", by_alias=True, exclude=bulky)
        for night in nights
        if Path(night.recipe).stem == run.recipe
    ]


def _settings(run: Run) -> tuple[Any, list[str]]:
    """What a run computes but for the seed: the stages as the recipe has them, comments aside, and the overrides."""
    stages = read_value(run.recipe_text, run.recipe_path)["stages"]
    return stages, [override for override in run.overrides if not override.startswith("seed=")]


def _entry(store: Store, run: Run) -> dict[str, Any] | None:
    reports = [stage for stage in run.stages if stage.stage == "report"]
    if not reports:
        return None
    try:
        metrics = read_record(store.path("report", reports[-1].fingerprint)).metrics
    except (OSError, DamagedRecord):
        return None
    histories = {
        stage.name: str(store.path(stage.stage, stage.fingerprint) / "history.jsonl")
        for stage in run.stages
        if stage.stage in ("train_grpo", "train_ppo")
    }
    return {"seed": run.seed, "run_id": run.run_id, "metrics": dict(metrics), "histories": histories}
