"""Time limits and preemption: a stage saves, goes on, and ends as one that nothing interrupted; when that is futile.

Slurm looks at time limits every 30 s, so most tests send the early signal by hand, as Slurm would.
"""

import time
from pathlib import Path

import pytest
from r1_process import wait_until
from staged import (
    assert_is_result_of_one_life,
    end_of,
    launcher,
    lives_of,
    log_of,
    num_steps,
    partition,
    stage_job,
    wait_for_steps,
    warn,
)

from slurm.job import Cause, End, Job, read_progress
from slurm.local import LocalLauncher
from slurm.queue import run
from slurm.resources import Resources
from tasks.core.files import write_json
from tests.tasks.training_inputs import history_of, make_base, make_problems, make_traces

SFT = {
    "max_steps": 300,
    "per_device_train_batch_size": 8,
    "learning_rate": 3e-3,
    "max_length": 128,
    "bf16": False,
    "gradient_checkpointing": False,
    "logging_steps": 5,
    "save_steps": 100,
}

pytestmark = pytest.mark.usefixtures("toy_stage", "cluster")


def _warn_after(job, running, steps):
    """Send the early signal once the toy has come so far, and its progress.json, written twice a second, as well."""
    wait_for_steps(job, steps)
    time.sleep(0.6)
    warn(running)


def _reach_limit(cluster, job, running):
    """Warn the job, and have Slurm end it at its next look."""
    time.sleep(0.6)
    warn(running)
    wait_until((job.directory / "stop").exists, 30, "the request to stop")
    _end_now(cluster, running)


def _end_now(cluster, running):
    """Two seconds from now: Slurm refuses a time that has passed when it hears of it, as `now` may have."""
    cluster.scontrol("update", f"JobId={running.job_id}", "EndTime=now+2")


def _wait_for_lives(job, running, number):
    wait_until(lambda: running.poll() or len(lives_of(job)) == number, 60, f"life number {number}")
    assert running.poll() is None


@pytest.mark.slow
def test_job_near_its_time_limit_saves_goes_back_to_the_queue_and_gives_the_result_of_one_life(tmp_path):
    # 60 s, of which the early signal may take no more than 15; Slurm sends it up to 30 s too early.
    job = stage_job(tmp_path, num_steps=100, step_s=0.6, resources={"time": "00:01:00"})
    running = launcher(early_signal_s=120).start(job)
    assert end_of(running, timeout_s=240) == End(0, "")
    assert_is_result_of_one_life(job, 100)
    lives = lives_of(job)
    assert 2 <= len(lives) <= 5
    assert lives == [(running.job_id, life) for life in range(len(lives))]
    assert "the time limit was near: saved, and back in the queue" in log_of(job)


def test_job_that_is_warned_saves_and_goes_on_under_its_id(tmp_path):
    job = stage_job(tmp_path, num_steps=30, step_s=0.1)
    running = launcher().start(job)
    _warn_after(job, running, 3)
    wait_until(lambda: running.poll() or "BeginTime" in running.note(), 30, "the job to wait for its second start")
    assert end_of(running) == End(0, "")
    assert_is_result_of_one_life(job, 30)
    assert lives_of(job) == [(running.job_id, 0), (running.job_id, 1)]


@pytest.mark.slow
def test_training_that_is_warned_goes_on_and_gives_the_weights_of_one_life(tmp_path):
    inputs = {"model": make_base(tmp_path / "base")}
    inputs["traces"] = make_traces(tmp_path / "traces", make_problems(tmp_path / "problems"))
    whole, warned = (_training(tmp_path / ".staging" / f"train_sft-{name}", inputs) for name in ("whole", "warned"))
    running = launcher().start(warned)
    wait_until(lambda: running.poll() or read_progress(warned.directory).get("done", 0) >= 20, 120, "20 steps")
    warn(running)
    assert end_of(running, 300) == End(0, ""), log_of(warned)
    assert lives_of(warned) == [(running.job_id, 0), (running.job_id, 1)]
    assert end_of(LocalLauncher().start(whole), 300) == End(0, ""), log_of(whole)
    assert history_of(warned.directory) == history_of(whole.directory)
    weights = Path("model", "model.safetensors")
    assert (warned.directory / weights).read_bytes() == (whole.directory / weights).read_bytes()


def _training(directory, inputs):
    directory.mkdir(parents=True)
    paths = {name: str(path) for name, path in inputs.items()}
    write_json(directory / "config.json", {"stage": "train_sft", "inputs": paths, "config": {"sft": SFT, "seed": 0}})
    return Job("train_sft", directory, Resources(cpus=1))


def test_job_that_may_not_be_requeued_goes_on_in_another(tmp_path):
    job = stage_job(tmp_path, num_steps=30, step_s=0.1)
    running = launcher(requeue=False).start(job)
    first = running.job_id
    _warn_after(job, running, 3)
    assert end_of(running) == End(0, "")
    assert_is_result_of_one_life(job, 30)
    assert lives_of(job) == [(first, 0), (running.job_id, 0)] and running.job_id != first
    assert "Slurm would not requeue the job" in log_of(job)


def test_job_that_is_warned_before_python_listens_goes_on_unharmed(tmp_path):
    job = stage_job(tmp_path)
    running = launcher(setup=f"touch '{tmp_path}/in-setup'\nsleep 3").start(job)
    wait_until((tmp_path / "in-setup").exists, 30, "the job's set-up")
    warn(running)
    assert end_of(running) == End(0, "")
    assert len(lives_of(job)) == 1


def test_job_that_was_continued_often_enough_ends_and_says_so_and_the_next_run_counts_anew(tmp_path):
    job = stage_job(tmp_path, num_steps=10_000, step_s=0.1)
    slurm = launcher(requeue=False, max_continuations=1)
    running = slurm.start(job)
    _warn_after(job, running, 2)
    _wait_for_lives(job, running, 2)
    _warn_after(job, running, num_steps(job) + 8)
    end = end_of(running)
    assert (end.exit_code, end.cause) == (1, Cause.TIME_LIMIT)
    assert "it was continued 1 times already, which is the profile's max_continuations" in end.error
    again = slurm.start(job)
    _wait_for_lives(job, again, 3)
    _warn_after(job, again, num_steps(job) + 1)
    _wait_for_lives(job, again, 4)


@pytest.mark.slow
def test_jobs_killed_at_their_limit_go_on_as_long_as_they_come_further(cluster, tmp_path):
    slurm = launcher()
    moves = stage_job(tmp_path, "toy-moves", num_steps=30, step_s=0.1, fail="hang-once", fail_at=5)
    stuck = stage_job(tmp_path, "toy-stuck", num_steps=30, step_s=0.1, fail="hang", fail_at=5)
    jobs = {job.name: slurm.start(job) for job in (moves, stuck)}
    never = launcher(setup="echo 'waiting for a disk'; sleep 600").start(stage_job(tmp_path, "toy-never"))
    wait_until(lambda: never.poll() or "running" in never.note(), 30, "the job that never begins")
    _end_now(cluster, never)
    first = jobs["toy-moves"].job_id
    for job in (moves, stuck):
        wait_for_steps(job, 5)
        _reach_limit(cluster, job, jobs[job.name])
    _wait_for_lives(stuck, jobs["toy-stuck"], 2)
    _reach_limit(cluster, stuck, jobs["toy-stuck"])
    assert end_of(jobs["toy-moves"]) == End(0, "")
    assert_is_result_of_one_life(moves, 30)
    assert lives_of(moves) == [(first, 0), (jobs["toy-moves"].job_id, 0)]
    end = end_of(never)
    assert end.cause == Cause.USER_ERROR and "waiting for a disk" in end.error
    end = end_of(jobs["toy-stuck"])
    assert (end.exit_code, end.cause) == (1, Cause.TIME_LIMIT)
    assert "reached its time limit on" in end.error
    assert "it came no further between two time limits (to 5, then to 0): raise resources.time" in end.error
    assert len(lives_of(stuck)) == 2


def test_job_that_makes_room_for_an_urgent_one_goes_on_from_its_checkpoint(cluster, tmp_path):
    job = stage_job(tmp_path, num_steps=40, step_s=0.1)
    running = launcher().start(job)
    wait_for_steps(job, 3)
    urgent = ("--partition=urgent", f"--nodes={len(cluster.nodes)}", "--exclusive", "--output=/dev/null")
    cluster.run("sbatch", *urgent, "--wrap=sleep 2")
    assert end_of(running) == End(0, "")
    assert_is_result_of_one_life(job, 40)
    assert lives_of(job) == [(running.job_id, 0), (running.job_id, 1)]


def test_job_that_is_ended_for_an_urgent_one_goes_on_in_another(cluster, tmp_path):
    with partition(cluster, "scavenger", "PreemptMode=CANCEL", "PriorityTier=1"):
        job = stage_job(tmp_path, num_steps=40, step_s=0.1)
        running = launcher(job={"partition": "scavenger"}).start(job)
        first = running.job_id
        wait_for_steps(job, 3)
        urgent = ("--partition=urgent", f"--nodes={len(cluster.nodes)}", "--exclusive", "--output=/dev/null")
        cluster.run("sbatch", *urgent, "--wrap=sleep 2")
        assert end_of(running) == End(0, "")
        assert_is_result_of_one_life(job, 40)
        assert lives_of(job) == [(first, 0), (running.job_id, 0)] and running.job_id != first


def test_job_that_somebody_cancels_while_it_waits_to_go_on_is_not_continued(tmp_path):
    job = stage_job(tmp_path, num_steps=40, step_s=0.1)
    running = launcher().start(job)
    _warn_after(job, running, 2)
    wait_until(lambda: running.poll() or "queued" in running.note(), 30, "the job to be in the queue again")
    run("scancel", running.job_id)
    end = end_of(running)
    assert (end.exit_code, end.cause) == (1, Cause.CANCELLED)
