"""Every recipe runs from its first stage to its report with a tiny model and a handful of rows.

The recipes share a store, as a user's do, so what two of them have in common is built once.
"""

import json

import pytest
from r1_process import R1, kill_stages

from flows.recipe import list_recipes

RECIPES = list_recipes()


@pytest.fixture(scope="module")
def smoke_r1(tmp_path_factory, prefect_url):
    command = R1(tmp_path_factory.mktemp("smoke"), prefect_url)
    yield command
    kill_stages(command.store)


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_smoke_runs_to_its_report(smoke_r1, path):
    output = smoke_r1("run", path, "--smoke")
    assert "SMOKE RUN, no result" in output
    run = next(run for run in smoke_r1.runs() if run["recipe"] == f"{path.stem}-smoke")
    assert run["state"] == "done" and {stage["state"] for stage in run["stages"]} <= {"built", "cached"}
    report = run["stages"][-1]
    page = (smoke_r1.store / report["stage"] / report["fingerprint"] / "report.html").read_text()
    assert "--smoke" in page and f"{path.stem}-smoke" in page
    for stage in run["stages"]:
        if stage["stage"] in ("train_grpo", "train_ppo"):
            history = smoke_r1.store / stage["stage"] / stage["fingerprint"] / "history.jsonl"
            assert [json.loads(line)["step"] for line in history.read_text().splitlines()] == [1, 2]
