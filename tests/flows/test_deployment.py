"""`prefect deploy --all`, a process worker, `prefect deployment run`, `prefect flow-run cancel`: the real commands."""

import json

import pytest
from prefect_process import PrefectCommand, flow_run_id
from r1_process import end, stage_pids, wait_until

from flows.recipe import list_recipes

SLOW = "  long: {stage: toy, num_steps: 10000, step_s: 0.1}\n"


@pytest.fixture(scope="module")
def prefect(prefect_url, tmp_path_factory):
    """Prefect's own command."""
    return PrefectCommand(prefect_url, tmp_path_factory.mktemp("deployed") / "store")


@pytest.fixture(scope="module")
def worker(prefect, tmp_path_factory):
    """The deployments of prefect.yaml, and a process worker on their pool."""
    process = prefect.start_worker(tmp_path_factory.mktemp("worker") / "log")
    yield process
    end(process)


def _runs(prefect):
    return [json.loads(path.read_text()) for path in prefect.store.glob("runs/*/run.json")]


def test_deployment_quickstart_runs_on_a_worker(worker, prefect, tmp_path):
    """Its recipe is replaced by one that takes seconds; `--watch` makes the command fail when the run does."""
    recipe = tmp_path / "short.yaml"
    recipe.write_text("name: short\ndescription: A test\nseed: 0\nstages:\n  only: {stage: toy}\n")
    parameters = json.dumps({"recipe": str(recipe), "overrides": ["only.num_steps=5"]})
    prefect("deployment", "run", "reproduce/quickstart", "--params", parameters, "--watch")
    run = next(run for run in _runs(prefect) if run["recipe"] == "short")
    assert run["state"] == "done" and run["overrides"] == ["only.num_steps=5"]
    assert next(prefect.store.glob("toy/*/metrics.json")).is_file()


def test_deployment_cancelled_through_the_api_ends_its_processes(worker, prefect, tmp_path):
    recipe = tmp_path / "long.yaml"
    recipe.write_text(f"name: long\ndescription: A test\nseed: 0\nstages:\n{SLOW}")
    output = prefect("deployment", "run", "reproduce/quickstart", "--params", json.dumps({"recipe": str(recipe)}))
    wait_until(lambda: stage_pids(prefect.store), 60, "the stage to start")
    prefect("flow-run", "cancel", flow_run_id(output))
    wait_until(lambda: not stage_pids(prefect.store), 60, "the stage's processes to end")
    run = wait_until(
        lambda: next((one for one in _runs(prefect) if one["recipe"] == "long" and one["state"] != "running"), None),
        30,
        "run.json to tell its end",
    )
    assert run["state"] == "cancelled" and run["stages"][0]["state"] == "cancelled"


def test_every_recipe_is_a_deployment_and_the_nightly_has_its_hour(worker, prefect):
    listed = prefect("deployment", "ls")
    for path in list_recipes():
        assert f"reproduce/{path.stem} " in listed.replace("│", " "), path.stem
    output = prefect("deployment", "inspect", "reproduce/s1-1k")
    assert "'recipe': 's1-1k'" in output or '"recipe": "s1-1k"' in output
    nightly = prefect("deployment", "inspect", "nightly/nightly")
    assert "0 1 * * *" in nightly and "UTC" in nightly and "quickstart" in nightly


def test_nightly_is_scheduled_for_its_hour_and_a_run_that_is_due_starts(worker, prefect, prefect_server, tmp_path):
    """By Prefect's scheduler. The schedule is active for this test alone, or a night might begin in another one."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    recipe = tmp_path / "due.yaml"
    recipe.write_text("name: due\ndescription: A test\nseed: 0\nstages:\n  only: {stage: toy}\n")
    parameters = json.dumps({"recipe": str(recipe)})
    prefect("deployment", "run", "reproduce/quickstart", "--params", parameters, "--start-in", "3 seconds")
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("nightly/nightly")
        (schedule,) = nightly.schedules
        of_nightly = DeploymentFilter(id=DeploymentFilterId(any_=[nightly.id]))

        def due():
            runs = client.read_flow_runs(deployment_filter=of_nightly)
            return {run.expected_start_time.strftime("%H:%M") for run in runs}

        client.update_deployment_schedule(nightly.id, schedule.id, active=True)
        try:
            wait_until(lambda: due() == {"01:00"}, 120, "the next nights to be scheduled")
        finally:
            client.update_deployment_schedule(nightly.id, schedule.id, active=False)
    wait_until(lambda: [run for run in _runs(prefect) if run["recipe"] == "due"], 60, "the run that is due")
