"""What `r1 run --launch slurm` says, tries again and returns when a stage fails, hangs or is refused."""

from r1_slurm import queue, submitted, toy_accuracy


def _task_runs(slurm_r1):
    """{stage: how often Prefect ran its task} of the newest run."""
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.sorting import TaskRunSort

    with SyncPrefectClient(slurm_r1.environment["PREFECT_API_URL"]) as client:
        newest = client.read_task_runs(sort=TaskRunSort.EXPECTED_START_TIME_DESC, limit=50)
    return {run.name: (run.run_count, run.state_name) for run in reversed(newest)}


def test_stage_that_crashes_in_its_job_is_not_tried_again_and_shows_its_last_lines_and_its_log(slurm_r1):
    """The stage without GPUs stays here, so that its job is the only one."""
    slurm_r1.profile.write_text(slurm_r1.profile.read_text().replace("cpu_stages: slurm", "cpu_stages: here"))
    recipe = slurm_r1.recipe(
        "  first: {stage: toy}\n  second: {stage: toy, source: first, fail: crash, fail_at: 2, resources: {gpus: 1}}\n"
    )
    output = slurm_r1.run_with_traceback(recipe, exit_code=1)
    assert "first: running" not in output and "first: built" in output
    (log,) = slurm_r1.store.glob(".staging/*/log.txt")
    lines = output.splitlines()
    assert lines[lines.index("r1: stage second failed: ValueError: the toy was told to crash") + 1] == f"log: {log}"
    assert "ValueError: the toy was told to crash" in output.partition("Traceback")[2]
    (name,) = submitted(slurm_r1.store)
    assert name == log.parent.name
    assert [stage["state"] for stage in slurm_r1.runs()[0]["stages"]] == ["built", "failed"]
    assert _task_runs(slurm_r1)["second"] == (1, "Failed")


def test_stage_that_hangs_once_is_tried_again_and_one_that_hangs_always_fails(slurm_r1):
    hang = "resources: {hang_minutes: 0.1}, fail_at: 2"
    recipe = slurm_r1.recipe(f"  once: {{stage: toy, fail: hang-once, {hang}}}\n  ever: {{stage: toy, seed: 1, "
                             f"fail: hang, {hang}}}\n")  # fmt: skip
    output = slurm_r1.run_with_traceback(recipe, exit_code=1)
    assert "r1: stage ever failed: no progress for 0.1 minutes (resources.hang_minutes)" in output
    assert "stage once failed" not in output and slurm_r1.record()["metrics"] == {"accuracy": toy_accuracy(3)}
    task_runs = _task_runs(slurm_r1)
    assert (task_runs["once"], task_runs["ever"]) == ((2, "Completed"), (2, "Failed"))
    assert len(submitted(slurm_r1.store)) == 4 and queue() == []
    (log,) = slurm_r1.store.glob(".staging/*/log.txt")
    assert "in _hang" in log.read_text()


def test_stage_that_slurm_refuses_is_the_users_to_mend_with_slurms_words_and_the_key(slurm_r1):
    slurm_r1.profile.write_text(slurm_r1.profile.read_text() + "job: {partition: gpus}\n")
    output = slurm_r1.run(slurm_r1.recipe("  only: {stage: toy}\n"), exit_code=2)
    assert "r1: stage only failed: Slurm refused the job:\n" in output
    assert "sbatch: error: invalid partition specified: gpus" in output
    assert "To mend it, change `partition` in the cluster profile" in output
    assert submitted(slurm_r1.store) == []
