"""The Slurm launcher on a real cluster: ends told right, jobs found again, cancelled, refused, and what people see."""

import json
import threading
import time

import pytest
from r1_process import stage_pids, wait_until
from staged import end_of, launcher, log_of, num_steps, stage_job, wait_for_steps

from slurm.job import Cause, End
from slurm.queue import run
from slurm.submission import comment_of

pytestmark = pytest.mark.usefixtures("toy_stage", "cluster")


def test_job_that_works_ends_with_zero_and_leaves_no_helper(tmp_path):
    job = stage_job(tmp_path)
    assert end_of(launcher().start(job)) == End(0, "")
    assert json.loads((job.directory / "status.json").read_text())["state"] == "done"
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
    assert end_of(launcher().start(stage_job(tmp_path, fail=fail))) == end


def test_job_gets_the_resources_and_variables_it_was_promised(tmp_path, monkeypatch):
    monkeypatch.setenv("R1_TEST_LINES", "one\ntwo $(touch never)")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")  # of an allocation around the flow: not the job's
    setup = 'echo "gpus $CUDA_VISIBLE_DEVICES, cpus $SLURM_CPUS_PER_TASK, mem $SLURM_MEM_PER_NODE"'
    scratch = str(tmp_path / "scratch of $SLURM_JOB_ID")
    start = launcher(setup=f'{setup}\necho "$R1_TEST_LINES"', scratch=scratch).start
    job = stage_job(tmp_path, resources={"gpus": 2, "cpus": 2, "mem_gb": 1.5, "time": "00:10:00"})
    running = start(job)
    assert end_of(running) == End(0, "")
    assert "gpus 0,1, cpus 2, mem 1500" in log_of(job)
    assert (tmp_path / f"scratch of {running.job_id}").is_dir()
    assert "one\ntwo $(touch never)" in log_of(job)


def test_job_whose_setup_fails_shows_its_last_words_and_the_keys_to_look_at(tmp_path):
    end = end_of(launcher(setup="module load cuda/99").start(stage_job(tmp_path)))
    assert (end.exit_code, end.cause) == (2, Cause.USER_ERROR)
    assert "failed before its stage began" in end.error and "module: command not found" in end.error


def test_job_in_a_directory_with_blanks_percents_and_unicode_writes_its_log_there(tmp_path):
    job = stage_job(tmp_path / "a store %j%a with 'quotes' \"and\" ünïcode $(id)")
    assert end_of(launcher().start(job)) == End(0, "")
    assert "steps]" in log_of(job)


def test_job_is_found_again_by_another_launcher_queued_running_and_finished(cluster, tmp_path):
    job = stage_job(tmp_path, num_steps=30, step_s=0.1)
    for node in cluster.nodes:
        cluster.scontrol("update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    first = launcher().start(job)
    second = launcher().find(job)
    assert second.job_id == first.job_id and second.poll() is None
    wait_until(lambda: second.poll() or "queued" in second.note(), 30, "the queue to show the job")
    for node in cluster.nodes:
        cluster.scontrol("update", f"NodeName={node}", "State=RESUME")
    wait_for_steps(job)
    third = launcher().find(job)
    assert third.job_id == first.job_id
    assert end_of(third) == End(0, "")
    assert launcher().find(job).poll() == End(0, "")
    assert (job.directory / "work" / "attempts.jsonl").read_text().count('"ended_at": null') == 1


def test_job_of_another_store_with_the_same_name_is_not_found(tmp_path):
    job, other = stage_job(tmp_path / "a", num_steps=100, step_s=0.1), stage_job(tmp_path / "b")
    launcher().start(job)
    assert launcher().find(other) is None


def test_job_submitted_twice_at_the_same_time_runs_one_after_the_other(tmp_path):
    job = stage_job(tmp_path, num_steps=10, step_s=0.2, log=str(tmp_path / "starts"))
    one, two = launcher().start(job), launcher().start(job)
    wait_for_steps(job)
    wait_until(lambda: two.poll() or "Dependency" in two.note(), 30, "the second job to wait for the first")
    assert end_of(one) == End(0, "")
    assert end_of(two) == End(0, "")
    assert len((tmp_path / "starts").read_text().splitlines()) == 1 and "done already" in log_of(job)


def test_job_of_another_user_in_the_same_directory_is_not_joined_by_a_second(cluster, tmp_path):
    job = stage_job(tmp_path)
    comment = comment_of(job)
    cluster.run("sbatch", f"--job-name={job.name}", f"--comment={comment}", "--wrap=sleep 60", user="nobody")
    end = launcher().find(job).poll()
    assert (end.exit_code, end.cause) == (2, Cause.REFUSED) and "of user nobody builds it" in end.error


def test_job_cancelled_is_gone_from_the_queue_with_all_its_processes(tmp_path):
    job = stage_job(tmp_path, num_steps=10_000, step_s=0.05)
    running = launcher().start(job)
    wait_for_steps(job)
    started = time.monotonic()
    running.cancel()
    assert time.monotonic() - started < 10  # the limit, not a speed
    assert run("squeue", "--noheader") == "" and stage_pids(tmp_path) == []
    status = json.loads((job.directory / "status.json").read_text())
    assert (status["state"], status["cause"]) == ("failed", "interrupted")


def test_job_cancelled_by_somebody_else_says_so_and_is_not_tried_again(tmp_path):
    job = stage_job(tmp_path, num_steps=10_000, step_s=0.05)
    running = launcher().start(job)
    wait_for_steps(job)
    run("scancel", running.job_id)
    end = end_of(running)
    assert (end.exit_code, end.cause) == (1, Cause.CANCELLED)
    assert "was ended by somebody else" in end.error


@pytest.mark.parametrize(
    ("settings", "resources", "words", "key"),
    [
        ({"job": {"partition": "gpus"}}, {}, "invalid partition specified: gpus", "partition"),
        ({"job": {"constraint": "h900"}}, {}, "Invalid feature specification", "constraint"),
        ({}, {"gpus": 9}, "Requested node configuration is not available", "resources.gpus"),
        ({"job": {"partition": "short"}}, {"time": "05:00:00"}, "time limit", "resources.time"),
    ],
)
def test_job_that_sbatch_refuses_tells_its_words_and_the_key_to_change(tmp_path, settings, resources, words, key):
    end = launcher(**settings).start(stage_job(tmp_path, resources=resources)).poll()
    assert (end.exit_code, end.cause) == (2, Cause.REFUSED)
    assert words in end.error and key in end.error and "sbatch --parsable --job-name=toy-0" in end.error


def test_job_that_hangs_leaves_its_stacks_and_ends(tmp_path):
    job = stage_job(tmp_path, resources={"hang_minutes": 0.05}, fail="hang", fail_at=2)
    end = end_of(launcher().start(job))
    assert (end.exit_code, end.cause) == (75, Cause.HANG)
    assert "no progress for 0.05 minutes" in end.error
    assert "in _hang" in log_of(job) and num_steps(job) == 2


def test_job_that_eats_its_memory_is_told_so_and_what_to_lower(cluster, tmp_path):
    if not cluster.limits_memory:
        pytest.skip("cgroups are not writable here, so nothing limits a job's memory")
    end = end_of(launcher().start(stage_job(tmp_path, resources={"mem_gb": 0.3}, fail="eat")))
    assert (end.exit_code, end.cause) == (2, Cause.OUT_OF_MEMORY)
    assert "resources.mem_gb" in end.error


def test_job_outlives_an_absent_controller_and_its_end_is_seen_afterwards(cluster, tmp_path):
    job = stage_job(tmp_path, num_steps=20, step_s=0.2)
    running = launcher().start(job)
    wait_for_steps(job)
    cluster.stop_controller()
    wait_until(lambda: running.poll() or "has not answered" in running.note(), 30, "the silence to be noticed")
    wait_until(lambda: json.loads((job.directory / "status.json").read_text())["state"] == "done", 30, "the stage")
    assert running.poll() is None
    cluster.start_controller()
    assert end_of(running) == End(0, "")


def test_job_is_submitted_once_the_controller_is_back(cluster, tmp_path):
    job = stage_job(tmp_path)
    cluster.stop_controller()
    back = threading.Timer(3, cluster.start_controller)
    back.start()
    assert end_of(launcher().start(job)) == End(0, "")
    back.join()


def test_job_is_requeued_by_hand_and_goes_on_from_its_checkpoint(tmp_path):
    job = stage_job(tmp_path, num_steps=40, step_s=0.1, log=str(tmp_path / "starts"))
    running = launcher().start(job)
    wait_for_steps(job, 3)
    run("scontrol", "requeue", running.job_id)
    assert end_of(running) == End(0, "")
    starts = [line.split()[2] for line in (tmp_path / "starts").read_text().splitlines()]
    assert len(starts) == 2 and int(starts[1]) >= 3


def test_queue_is_asked_once_an_interval_however_many_jobs_are_watched(tmp_path):
    slurm = launcher(poll_s=1.0)
    jobs = [slurm.start(stage_job(tmp_path, f"toy-{number}", num_steps=1000, step_s=0.1)) for number in range(8)]
    slurm.queue.look(max_age_s=0)
    before, started = slurm.queue.num_commands, time.monotonic()
    while time.monotonic() - started < 3.5:
        assert [job.poll() for job in jobs] == [None] * 8
        [job.note() for job in jobs]
        time.sleep(0.05)
    assert slurm.queue.num_commands - before <= 5  # 3 or 4 looks, one of them with everybody's pending jobs
