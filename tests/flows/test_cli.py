"""The command line on a real store: plans, dry runs, the commands that look at artifacts and runs."""

import json

import pytest

PAIR = """\
  first: {stage: toy}
  second: {stage: toy, source: first}
"""


def test_help_names_every_command(offline_r1):
    output = offline_r1("--help")
    for command in ("run", "plan", "recipes", "ls", "show", "explain", "verify", "gc", "jobs", "cluster", "audit"):
        assert f"    {command} " in output
    for command in ("compare", "site"):
        assert f"    {command} " in output


def test_recipes_lists_the_quickstart(offline_r1):
    assert "quickstart " in offline_r1("recipes")


def test_plan_says_what_is_built_and_creates_nothing(offline_r1):
    output = offline_r1("plan", offline_r1.recipe(PAIR))
    assert output.count("build (not built yet)") == 2
    assert "To build: 2 of 2 stages; estimated cost: 2 never built here, so unknown." in output
    assert not offline_r1.store.exists()


def test_dry_run_prints_the_exact_commands_and_creates_nothing(offline_r1):
    output = offline_r1("run", "--dry-run", offline_r1.recipe(PAIR), "--set", "second.resources.cpus=3")
    commands = [line for line in output.splitlines() if " -m tasks.toy " in line]
    assert [line.split(": ")[0] for line in commands] == ["first", "second"]
    assert f"{offline_r1.store}/.staging/toy-" in commands[0]
    assert "OMP_NUM_THREADS=3" in commands[1]
    assert not offline_r1.store.exists()


@pytest.mark.parametrize("place", ["before", "after"])
def test_store_option_may_stand_before_or_after_the_command(offline_r1, tmp_path, place):
    words = ["--store", tmp_path / "elsewhere"]
    output = offline_r1(*words, "ls") if place == "before" else offline_r1("ls", *words)
    assert f"No artifact in {tmp_path}/elsewhere yet" in output


def test_run_twice_then_every_command_that_looks_at_the_store(r1):
    recipe = r1.recipe(PAIR)
    first = r1("run", recipe, "--set", "second.num_steps=5")
    assert "first: built in" in first and "Built 2 of 2 stages" in first
    second = r1("run", recipe, "--set", "second.num_steps=5")
    assert "Nothing to build: all 2 stages are in the store." in second
    assert "Nothing was built: all 2 stages came from the store" in second
    r1("run", recipe)
    old, _, new = r1.runs()
    assert old["overrides"] == ["second.num_steps=5"] and new["overrides"] == []
    assert {key: old[key] for key in ("recipe", "seed", "state")} == {"recipe": "test", "seed": 0, "state": "done"}
    assert old["recipe_text"] == recipe.read_text()

    assert r1("ls").count("toy ") == 3
    assert r1("ls", "--runs").count("done") == 3
    assert "overrides: second.num_steps=5" in r1("show", old["run_id"])
    assert "accuracy" in r1("show", old["stages"][0]["fingerprint"])
    output = r1("explain", f"{old['run_id']}:second", f"{new['run_id']}:second")
    assert "num_steps" in output and "5" in output and "3" in output
    assert "3 artifacts checked, 0 damaged." in r1("verify")

    metrics = next(r1.store.glob(f"toy/{new['stages'][1]['fingerprint']}/metrics.json"))
    metrics.write_text(json.dumps({"accuracy": 1}))
    assert "1 damaged" in r1("verify", exit_code=1)
    assert "would free" in r1("gc", "--keep-runs", "1", "--dry-run")
    r1("gc", "--keep-runs", "1")
    assert {path.name for path in r1.store.glob("toy/*")} == {one["fingerprint"] for one in new["stages"]}
