"""What is around a job: answers of Slurm's that get lost, other jobs, variables, users."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress

import pytest
from r1_process import PROJECT_DIR, TOYS_DIR, wait_until
from staged import end_of, launcher, log_of, partition, stage_job, wait_for_steps

from slurm.job import Cause, End
from slurm.queue import run

pytestmark = pytest.mark.usefixtures("toy_stage", "cluster")

TIMED_OUT = "Batch job submission failed: Socket timed out on send/recv operation"
USER_SCRIPT = """
import sys
from pathlib import Path
from slurm.queue import run
from staged import *

def mine():
    return launcher(job={"partition": "secret"})

jobs = [stage_job(Path(sys.argv[1]), f"toy-{name}", num_steps=30, step_s=0.1) for name in range(3)]
first, second, third = [mine().start(job) for job in jobs]
wait_for_steps(jobs[1])
found = mine().find(jobs[1])
warn(second)
wait_for_steps(jobs[2])
third.cancel()
print(json.dumps([end_of(first).exit_code, found.job_id == second.job_id, end_of(found).exit_code, lives_of(jobs[1]),
    mine().find(jobs[2]) is None, run("squeue", "--noheader", "--all")]))
"""


@pytest.fixture
def wrap(tmp_path, monkeypatch):
    """wrap(COMMAND, LINES) puts bash before a Slurm command, in which `real` is what is wrapped."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()

    def put(command, lines):
        path = bin_dir / command
        path.write_text(f'#!/bin/bash\ncd {tmp_path}\nreal() {{ {shutil.which(command)} "$@"; }}\n{lines}\n')
        path.chmod(0o755)

    yield put
    monkeypatch.undo()


def _first_on_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")


def _jobs_named(name):
    return run("squeue", "--noheader", "--states=all", f"--name={name}", "--format=%A").split()


def test_job_whose_submission_timed_out_but_came_through_is_not_submitted_again(wrap, monkeypatch, tmp_path):
    wrap("sbatch", f'real "$@" && echo once >> calls && echo "sbatch: error: {TIMED_OUT}" >&2 && exit 1')
    # The queue does not answer at first: only when it does is it known that the job is there.
    wrap("squeue", '[[ -e calls ]] && echo asked >> asked && (( $(wc -l < asked) < 4 )) && exit 1\nreal "$@"')
    _first_on_path(monkeypatch, tmp_path)
    job = stage_job(tmp_path, "toy-lost", num_steps=40, step_s=0.1)
    running = launcher().start(job)
    assert (tmp_path / "calls").read_text() == "once\n" and len((tmp_path / "asked").read_text().splitlines()) >= 4
    assert end_of(running) == End(0, "")


def test_job_that_is_refused_for_the_moment_is_submitted_when_slurm_takes_it(wrap, monkeypatch, tmp_path):
    busy = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying"
    wrap("sbatch", f'echo try >> tries; (( $(wc -l < tries) < 3 )) && echo "{busy}" >&2 && exit 1\nreal "$@"')
    _first_on_path(monkeypatch, tmp_path)
    assert end_of(launcher().start(stage_job(tmp_path))) == End(0, "")
    (tmp_path / "tries").unlink()
    end = launcher(submit_timeout_s=0).start(stage_job(tmp_path)).poll()
    assert end.cause == Cause.REFUSED and "temporarily unable to accept job" in end.error


def test_job_is_watched_through_a_time_without_answers(wrap, monkeypatch, tmp_path):
    wrap(
        "squeue",
        '[[ -e silent ]] && echo "slurm_load_jobs error: Unexpected message received" >&2 && exit 1\nreal "$@"',
    )
    _first_on_path(monkeypatch, tmp_path)
    job = stage_job(tmp_path, num_steps=20, step_s=0.1)
    running = launcher().start(job)
    wait_for_steps(job)
    (tmp_path / "silent").touch()
    wait_until(lambda: running.poll() or "has not answered for" in running.note(), 30, "the silence to be noticed")
    wait_until(lambda: json.loads((job.directory / "status.json").read_text())["state"] == "done", 30, "the stage")
    assert running.poll() is None
    (tmp_path / "silent").unlink()
    assert end_of(running) == End(0, "")


def test_other_jobs_with_odd_names_and_comments_do_not_confuse_the_queue(cluster, tmp_path):
    job = stage_job(tmp_path, "toy-mine", num_steps=30, step_s=0.1)
    fields = "\x1f".join(["1", "1", "", "COMPLETED", "", "", "", "", "", "", "toy-mine"])
    for name in ("a\nb", "a\x1fb", "tab\there", "ünïcode 名", "'quo\"tes $(id)", f"x\n{fields}\n", "\x1e\x85\u2028"):
        options = ("--output=/dev/null", "--parsable", f"--job-name={name}", f"--comment={name}\n{fields}\n")
        cluster.run("sbatch", *options, "--hold", "--wrap=true")
    slurm = launcher()
    running = slurm.start(job)
    assert launcher().find(job).job_id == running.job_id
    assert launcher().find(stage_job(tmp_path, "toy-other")) is None
    assert slurm.queue.look(max_age_s=0).job(running.job_id).name == "toy-mine"
    assert end_of(running) == End(0, "")


def test_variables_of_an_outer_job_and_of_a_users_shell_change_nothing(monkeypatch, tmp_path):
    theirs = {
        "SLURM_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "7", "SLURM_RESTART_COUNT": "5", "SLURM_NTASKS": "8",
        "SLURM_MEM_PER_NODE": "17", "SLURM_TRES_PER_TASK": "cpu:3", "SLURM_TIME_FORMAT": "relative",
        "SBATCH_ARRAY_INX": "0-3", "SBATCH_TIMELIMIT": "1", "SBATCH_WAIT": "1", "SBATCH_GRES": "gpu:2",
        "SBATCH_EXPORT": "NONE", "SQUEUE_FORMAT": "%i", "SQUEUE_STATES": "FAILED", "SQUEUE_USERS": "nobody",
        "SQUEUE_SORT": "i", "SACCT_FORMAT": "jobid", "SCANCEL_STATE": "PENDING", "SCANCEL_INTERACTIVE": "true",
    }  # fmt: skip
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("R1_TEST_WORD", "kept")
    job = stage_job(tmp_path, "toy-env")
    setup = 'echo "R1_TEST_WORD $R1_TEST_WORD; $(env | grep -c ^SLURM_ARRAY) of an array; limit $SLURM_JOB_END_TIME"'
    running = launcher(setup=setup).start(job)
    assert end_of(running) == End(0, "")
    assert "R1_TEST_WORD kept; 0 of an array" in log_of(job)
    assert _jobs_named("toy-env") == [running.job_id]
    cancelled = launcher().start(stage_job(tmp_path, "toy-more", num_steps=10_000, step_s=0.1))
    cancelled.cancel()
    assert run("squeue", "--noheader") == ""


def _python_for(cluster, user):
    """An interpreter that the user may start: ours, else the system's, where it is of the same version."""
    for python in (sys.executable, "/usr/bin/python3"):
        with suppress(OSError, subprocess.CalledProcessError):
            cluster.run(python, "-c", "import slurm.launcher, tasks.toy", user=user)
            return python
    pytest.skip(f"user {user} may not start {sys.executable}, or not read this project")


def test_user_who_is_not_root_runs_finds_continues_and_cancels_jobs_in_a_hidden_partition(cluster, monkeypatch):
    paths = (TOYS_DIR, PROJECT_DIR, PROJECT_DIR / "tests", PROJECT_DIR / "tests/slurm", sysconfig.get_path("purelib"))
    monkeypatch.setenv("PYTHONPATH", ":".join(map(str, paths)))
    python, store = _python_for(cluster, "nobody"), cluster.directory / "jobs" / "a-users-store"
    with partition(cluster, "secret", "Hidden=YES"):
        output = cluster.run(python, "-c", USER_SCRIPT, str(store), user="nobody")
    first, is_same, second, lives, is_gone, left = json.loads(output.splitlines()[-1])
    assert (first, is_same, second, is_gone, left) == (0, True, 0, True, "")
    assert [life for _, life in lives] == [0, 1]
    assert store.owner() == "nobody"
