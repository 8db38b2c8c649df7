"""`r1 run --launch slurm` interrupted: its jobs leave the queue within ten seconds, and the next run goes on."""

import signal
import time

import pytest
from r1_process import stage_pids, wait_until
from r1_slurm import queue

NAMES = ("one", "two", "three")
LIMIT_S = 10  # the word on when the jobs are gone; no speed


def _interrupt(process, number=signal.SIGINT):
    """Send the signal; returns how many seconds later the queue was empty, and what the command said in the end."""
    process.send_signal(number)
    started = time.monotonic()
    wait_until(lambda: not queue(), 60, "the queue to be empty")
    gone_after_s = time.monotonic() - started
    return gone_after_s, process.communicate(timeout=60)[0]


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_run_interrupted_ends_its_jobs_and_the_next_run_resumes(slurm_r1, number, exit_code):
    """Two jobs run, the third waits for their cores."""
    log = slurm_r1.directory / "log"
    stage = f"stage: toy, num_steps: 2000, step_s: 0.05, log: {log}, resources: {{cpus: 4}}"
    stages = (f"  {name}: {{{stage}, label: {name}, seed: {seed}}}\n" for seed, name in enumerate(NAMES))
    recipe = slurm_r1.recipe("".join(stages))
    process = slurm_r1.start_run(recipe)
    wait_until(lambda: sorted(queue()) == ["PENDING", "RUNNING", "RUNNING"], 60, "two jobs to run, and one to wait")
    slurm_r1.wait_for_steps(num_toys=2)
    gone_after_s, output = _interrupt(process, number)
    assert process.returncode == exit_code, output
    assert gone_after_s < LIMIT_S
    assert stage_pids(slurm_r1.store) == []
    assert all(f"{name}: stopped after" in output for name in NAMES)
    assert "r1: interrupted; what was done is kept, and the next run goes on from there." in output
    (run,) = slurm_r1.runs()
    assert run["state"] == "cancelled" and [stage["state"] for stage in run["stages"]] == ["cancelled"] * 3
    before = _starts(log)
    assert list(before.values()) == [0, 0]
    slurm_r1.run(recipe, *(word for name in NAMES for word in ("--set", f"{name}.step_s=0")))
    again = {name: step for name, step in _starts(log).items() if name in before}
    assert min(again.values()) > 0


def _starts(log):
    """The step from which each toy began last, by its label."""
    lines = log.read_text().splitlines() if log.exists() else []
    return {name: int(step) for name, _, step in map(str.split, lines)}


def test_run_cancelled_while_slurm_is_away_says_which_job_is_left_and_the_next_run_follows_it(slurm_r1, cluster):
    recipe = slurm_r1.recipe("  only: {stage: toy, num_steps: 10000, step_s: 0.05}\n")
    process = slurm_r1.start_run(recipe)
    slurm_r1.wait_for_steps()
    (job_id,) = queue("%i")
    cluster.stop_controller()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"only: Slurm was not there to end job {job_id}" in output and f"`scancel {job_id}`" in output
    assert slurm_r1.runs()[0]["state"] == "cancelled"
    cluster.start_controller()
    assert queue("%i") == [job_id]
    again = slurm_r1.start_run(recipe)
    wait_until(lambda: f"job {job_id} running on" in again.stdout.readline(), 60, "the job to be found")
    assert _interrupt(again)[0] < LIMIT_S


def test_run_interrupted_while_it_waits_for_slurm_to_take_its_job_ends(slurm_r1, cluster):
    cluster.stop_controller()
    process = slurm_r1.start_run(slurm_r1.recipe("  only: {stage: toy}\n"))
    wait_until(lambda: "only: Slurm does not answer (" in process.stdout.readline(), 60, "a word about it")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    cluster.start_controller()
    assert queue() == []
