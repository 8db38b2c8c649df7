"""The local launcher on real processes: ends told right, children ended with their stage, jobs found again."""

import json
import os
import signal
import subprocess
import sys

import pytest
from r1_process import stage_pids, wait_until

from slurm.command import ACCELERATE
from slurm.job import Cause, End, Job
from slurm.local import LocalLauncher
from slurm.resources import Resources
from tasks.core.files import write_json

pytestmark = pytest.mark.usefixtures("toy_stage")


def _job(tmp_path, **config):
    directory = tmp_path / ".staging" / "toy-0"
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "config.json", {"stage": "toy", "inputs": {}, "config": {"seed": 0} | config})
    return Job("toy", directory)


def _end(running):
    return wait_until(running.poll, 60, "the job's end")


def _wait_for_steps(job):
    wait_until(lambda: (job.directory / "work" / "checkpoint.json").exists(), 60, "the first step")


def test_job_that_works_ends_with_zero_and_leaves_no_helper(tmp_path):
    job = _job(tmp_path)
    assert _end(LocalLauncher().start(job)) == End(0, "")
    wait_until(lambda: not stage_pids(tmp_path), 30, "the careless helper's end")


@pytest.mark.parametrize(
    ("fail", "end"),
    [
        ("crash", End(1, "ValueError: the toy was told to crash", Cause.CODE_ERROR)),
        ("user", End(2, "num_steps is silly: give another.", Cause.USER_ERROR)),
        ("transient-once", End(75, "the network is away", Cause.TRANSIENT)),
    ],
)
def test_job_that_fails_tells_its_exit_code_error_and_cause(tmp_path, fail, end):
    assert _end(LocalLauncher().start(_job(tmp_path, fail=fail))) == end


def test_job_that_is_asked_to_pause_saves_and_goes_on_when_it_is_started_again(tmp_path):
    job = _job(tmp_path, num_steps=40, step_s=0.05)
    running = LocalLauncher().start(job)
    _wait_for_steps(job)
    running.pause()
    end = _end(running)
    assert (end.exit_code, end.cause) == (75, Cause.PAUSED)
    saved = json.loads((job.directory / "work" / "checkpoint.json").read_text())[0]
    assert end.error == f"saved at step {saved} when asked to stop."
    assert _end(LocalLauncher().start(job)) == End(0, "")


def test_job_that_is_killed_is_told_of_memory(tmp_path):
    end = _end(LocalLauncher().start(_job(tmp_path, fail="die")))
    assert end.exit_code == -signal.SIGKILL
    assert "SIGKILL" in end.error and "memory ran out" in end.error
    wait_until(lambda: not stage_pids(tmp_path), 30, "the orphaned helper's end")


def test_job_cancelled_ends_with_its_helpers(tmp_path):
    job = _job(tmp_path, num_steps=10_000, step_s=0.05)
    running = LocalLauncher().start(job)
    _wait_for_steps(job)
    assert len(stage_pids(tmp_path)) == 2
    running.cancel()
    assert stage_pids(tmp_path) == []
    assert json.loads((job.directory / "status.json").read_text())["state"] == "failed"


def test_job_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("slurm.local.GRACE_S", 0.3)
    directory = tmp_path / ".staging" / "toy-0"
    directory.mkdir(parents=True)
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    monkeypatch.setattr(LocalLauncher, "_command", lambda self, job: [sys.executable, "-c", stubborn, str(directory)])
    running = LocalLauncher().start(Job("toy", directory))
    wait_until(lambda: "ready" in (directory / "log.txt").read_text(), 30, "the process to shut its ears")
    running.cancel()
    assert stage_pids(tmp_path) == []


def test_job_of_a_dead_flow_is_found_before_it_has_written_anything(tmp_path):
    job = _job(tmp_path, num_steps=10_000, step_s=0.05)
    child = subprocess.Popen(LocalLauncher().commands(job)[0], start_new_session=True)
    try:
        found = wait_until(lambda: LocalLauncher().find(job), 30, "the process to be found")
        assert not (job.directory / "status.json").exists()
        assert found.poll() is None
        _wait_for_steps(job)
        found.cancel()
        assert stage_pids(tmp_path) == []
    finally:
        child.kill()
        child.wait()
    assert LocalLauncher().find(job) is None


def test_job_that_ended_well_while_nobody_watched_is_found_finished(tmp_path):
    job = _job(tmp_path)
    _end(LocalLauncher().start(job))
    assert LocalLauncher().find(job).poll() == End(0, "")


def test_job_in_another_directory_is_not_found(tmp_path):
    job = _job(tmp_path, num_steps=10_000, step_s=0.05)
    running = LocalLauncher().start(job)
    try:
        other = tmp_path / ".staging" / "toy-01"
        other.mkdir()
        assert LocalLauncher().find(Job("toy", other)) is None
        assert LocalLauncher().find(Job("evaluate", job.directory)) is None
    finally:
        running.cancel()


def test_job_with_processes_goes_through_accelerate(tmp_path):
    command = LocalLauncher().commands(Job("train_sft", tmp_path, Resources(gpus=4)))[0]
    launch = ["-m", *ACCELERATE, "--num_machines", "1", "--machine_rank", "0", "--main_process_port", "0"]
    launch += ["--num_processes", "4"]
    assert command[1:] == [*launch, "-m", "tasks.train_sft", str(tmp_path)]


def test_job_gets_its_cores_and_no_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr(LocalLauncher, "_command", lambda self, job: ["sh", "-c", "echo $OMP_NUM_THREADS; sleep 600"])
    directory = tmp_path / "job"
    directory.mkdir()
    running = LocalLauncher().start(Job("toy", directory, num_cpus=3))
    try:
        wait_until(lambda: (directory / "log.txt").read_text() == "3\n", 30, "the line in the log")
        assert os.getsid(running.leader.pid) == running.leader.pid != os.getsid(0)
    finally:
        running.cancel()
