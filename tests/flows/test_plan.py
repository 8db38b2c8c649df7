"""Plans: what changes an identity and what does not, and what a run is said to do."""

import os

import pytest

from flows.plan import look_ahead, make_plan
from flows.recipe import load_recipe
from tasks.core.store import Store

RECIPE = """\
name: plan
description: A test
seed: 0
stages:
  first: {stage: toy}
  second: {stage: toy, source: first}
"""


@pytest.fixture
def fingerprints(toy_stage, tmp_path):
    """`fingerprints("a=1", seed=1)`: the fingerprint of each stage with these overrides."""
    path = tmp_path / "plan.yaml"
    path.write_text(RECIPE)

    def plan(*overrides):
        return {stage.name: stage.fingerprint for stage in make_plan(load_recipe(path, overrides)).stages}

    return plan


@pytest.mark.parametrize(
    "override",
    ["first.resources.gpus=8", "first.resources.cpus=2", "first.resources.nodes=4", "first.step_s=1.5", "first.log=x"],
)
def test_identity_does_not_depend_on_resources_or_operations(fingerprints, override):
    assert fingerprints(override) == fingerprints()


def test_identity_does_not_depend_on_where_and_how_it_runs(fingerprints, tmp_path, monkeypatch):
    before = fingerprints()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1_STORE", str(tmp_path / "other"))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
    assert os.environ["R1_STORE"] and fingerprints() == before


def test_identity_depends_on_the_seed_in_every_stage(fingerprints):
    old, new = fingerprints(), fingerprints("seed=1")
    assert old["first"] != new["first"] and old["second"] != new["second"]


def test_identity_of_a_stage_passes_on_to_those_that_read_it_and_no_others(fingerprints):
    old, upper, lower = fingerprints(), fingerprints("first.num_steps=4"), fingerprints("second.num_steps=4")
    assert upper["first"] != old["first"] and upper["second"] != old["second"]
    assert lower["first"] == old["first"] and lower["second"] != old["second"]


def test_identity_depends_on_the_name_of_the_recipe_where_a_stage_tells_of_the_run(toy_stage, tmp_path):
    """Two recipes may share every artifact, but not the page that bears a recipe's name."""
    planned = []
    for name in ("plan", "other"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(RECIPE.replace("name: plan", f"name: {name}") + "  report: {stage: report}\n")
        planned.append({stage.name: stage.fingerprint for stage in make_plan(load_recipe(path)).stages})
    assert [name for name in planned[0] if planned[0][name] != planned[1][name]] == ["report"]


def test_look_ahead_tells_of_rebuilds_and_of_what_was_made_from_the_old_one(prefect_server, tmp_path):
    from flows.reproduce import reproduce

    path = tmp_path / "plan.yaml"
    path.write_text(RECIPE)
    reproduce(recipe=str(path), store=str(tmp_path / "store"))
    plan, store = make_plan(load_recipe(path)), Store(tmp_path / "store")
    first, second = look_ahead(plan, store)
    assert (first.cached, first.reason, second.cached, second.reason) == (True, "", True, "")
    first, second = look_ahead(plan, store, frozenset({"first"}))
    assert (first.cached, first.reason) == (False, "--rebuild")
    assert first.seconds == pytest.approx(store.runs()[0].stages[0].wall_s)
    assert second.cached
    assert second.reason == "kept, though made from the old first; --rebuild second builds it anew"
