"""--launch where no cluster is needed: what dry runs say, which names are refused, and what cannot run here."""

import json

import pytest

from flows.launch import default_jobs
from flows.plan import make_plan
from flows.recipe import load_recipe
from flows.smoke import smoke
from slurm.job import Cause, Job
from slurm.launcher import SlurmLauncher
from slurm.local import LocalLauncher
from slurm.profile import Profile

MIXED = """\
  data: {stage: toy}
  model: {stage: toy, source: data, resources: {gpus: 1, time: 02:00:00}}
"""
HOSTILE_NAMES = ["$(touch pwned)", "a b", "x;rm", "`id`", "it's", "-x", "a\nb", "x|y", "a%j"]


def test_dry_run_on_slurm_keeps_stages_without_gpus_here_and_shows_what_the_others_run(offline_r1):
    output = offline_r1("run", offline_r1.recipe(MIXED), "--dry-run", "--launch", "slurm")
    (data,) = (line for line in output.splitlines() if line.startswith("data: "))
    (model,) = (line for line in output.splitlines() if line.startswith("model: "))
    assert " -m tasks.toy " in data
    assert model.startswith("model: sbatch --parsable --job-name=toy-") and "--gres=gpu:1 --time=02:00:00" in model
    assert "\n--- setup.sh in each job's directory\n" in output and "#SBATCH --open-mode=append" in output
    assert not offline_r1.store.exists()


def test_run_on_slurm_with_a_profile_that_is_wrong_is_refused_before_anything_is_built(offline_r1):
    profile = offline_r1.directory / "mine.yaml"
    profile.write_text("name: mine\njob: {partion: gpu}\n")
    command = ("run", offline_r1.recipe(MIXED), "--launch", "slurm", "--cluster", profile)
    output = offline_r1(*command, exit_code=2)
    assert f"{profile}:2: job.partion is not a key" in output and "nearest: partition" in output
    assert not [*offline_r1.store.glob("runs/*")]


def test_run_here_of_a_stage_on_several_nodes_is_refused(offline_r1):
    recipe = offline_r1.recipe("  only: {stage: toy, resources: {nodes: 2}}\n")
    output = offline_r1("run", recipe, "--dry-run", exit_code=2)
    assert "stage only wants 2 nodes" in output and "sbatch --nodes=2 slurm/pipeline.sbatch" in output


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_recipe_with_a_hostile_name_or_stage_name_is_refused(offline_r1, name):
    for recipe, stage, key, allowed in (
        (name, "only", "name", "small letters, digits"),
        ("test", name, f"stages.{name}", "a-z, 0-9"),
    ):
        path = offline_r1.directory / f"{recipe}.yaml"
        path.write_text(
            f"name: {json.dumps(recipe)}\ndescription: x\nseed: 0\nstages:\n  {json.dumps(stage)}: {{stage: toy}}\n"
        )
        output = offline_r1("run", path, "--dry-run", "--launch", "slurm", exit_code=2)
        assert f" {key} " in output and allowed in output


def test_run_on_slurm_where_there_is_none_ends_at_once_and_says_so(toy_stage, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    launcher = SlurmLauncher(Profile(name="test", cpu_stages="slurm"), "python")
    end = launcher.find(Job("toy", tmp_path)).poll()
    assert (
        end.cause == Cause.REFUSED
        and "squeue is not here: use a machine of the cluster, or --launch local" in end.error
    )


def test_stages_at_a_time_are_one_here_two_in_small_and_all_on_a_cluster(tmp_path):
    real = load_recipe("quickstart")
    plans = [make_plan(real), make_plan(smoke(real, tmp_path)[0])]
    here, slurm = LocalLauncher(), SlurmLauncher(Profile(name="test", cpu_stages="slurm"), "python")
    assert [default_jobs(plan, here) for plan in plans] == [1, 2]
    assert [default_jobs(plan, slurm) for plan in plans] == [len(plan.stages) for plan in plans]
