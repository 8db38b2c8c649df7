"""The other seeds of a recipe, found in the store."""

from pathlib import Path
from typing import Any

import pytest

from flows.siblings import find_siblings
from tasks.core.files import write_json
from tasks.core.stage import Stage, StageConfig
from tasks.core.store import Run, RunStage, Store, collect_provenance, fingerprint_of, identity_of


class Config(StageConfig):
    """A report of one seed."""

    seed: int
    """Told apart by it."""


STAGE = Stage(name="report", version=1, config=Config, run=print)


def publish(store: Store, seed: int) -> str:
    """A report whose metrics are those of `seed`; returns its fingerprint."""
    identity = identity_of(STAGE, Config(seed=seed), {})
    fingerprint = fingerprint_of(identity)
    with store.lock("report", fingerprint) as lock:
        write_json(store.staging("report", fingerprint) / "metrics.json", {"difference": seed / 10})
        store.publish(
            lock,
            identity=identity,
            code="",
            provenance=collect_provenance(),
            started_at="2026-01-01T00:00:00+00:00",
            wall_s=1.0,
        )
    return fingerprint


@pytest.fixture
def run_of(tmp_path: Path) -> Any:
    store = Store(tmp_path / "store")

    def run(seed: int, minute: int, **changes: Any) -> Run:
        fields = {
            "run_id": f"r-{seed}-{minute}",
            "recipe": "r",
            "recipe_path": "r.yaml",
            "recipe_text": "stages: {rl: {lr: 1}}",
            "overrides": [f"seed={seed}"],
            "seed": seed,
            "started_at": f"2026-01-01T00:{minute:02}:00+00:00",
            "state": "done",
            "stages": [
                RunStage(name="rl", stage="train_grpo", fingerprint="f" * 20),
                RunStage(name="report", stage="report", fingerprint=publish(store, seed)),
            ],
        }
        one = Run(**(fields | changes))
        store.write_run(one)
        return one

    run.store = store
    return run


def test_find_siblings_takes_the_newest_finished_run_of_every_other_seed(run_of: Any) -> None:
    run_of(2, 1)
    run_of(2, 5, recipe_text="stages: {rl: {lr: 1}}  # a comment changes nothing")
    run_of(1, 3)
    run_of(3, 4, state="failed")
    this = run_of(0, 6, overrides=[])
    found = find_siblings(run_of.store, this)
    assert [(one["seed"], one["run_id"]) for one in found] == [(1, "r-1-3"), (2, "r-2-5")]
    assert [one["metrics"]["difference"] for one in found] == [0.1, 0.2]
    assert found[0]["histories"] == {"rl": str(run_of.store.path("train_grpo", "f" * 20) / "history.jsonl")}


def test_find_siblings_leaves_out_other_settings_and_other_recipes(run_of: Any) -> None:
    run_of(1, 1, overrides=["seed=1", "grpo.max_steps=4"])
    run_of(2, 2, recipe_text="stages: {rl: {lr: 2}}")
    run_of(3, 3, recipe="other")
    assert find_siblings(run_of.store, run_of(0, 4)) == []


def test_find_siblings_leaves_out_a_run_whose_report_is_damaged(run_of: Any) -> None:
    other = run_of(1, 1)
    (run_of.store.path("report", other.stages[1].fingerprint) / "record.json").write_text("{")
    assert find_siblings(run_of.store, run_of(0, 2)) == []
