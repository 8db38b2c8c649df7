"""Law: after kill -9 at any point the next run ends with the same fingerprints and metrics; nothing is run twice."""

import contextlib
import os
import random
import signal
import time

import pytest
from r1_process import R1, stage_pids, wait_until

STAGES = """\
  first: {{stage: toy, log: {log}, label: first, num_steps: 30, step_s: 0.05}}
  second: {{stage: toy, source: first, log: {log}, label: second, num_steps: 30, step_s: 0.05}}
"""
TINY_QUICKSTART = (
    *("problems.num_train=24", "problems.num_eval=12", "traces.num_traces=4", "verified.max_per_problem=4"),
    *("sft.sft.max_steps=6", "sft.sft.save_steps=2", "sft.sft.per_device_train_batch_size=4"),
    *("grpo.grpo.max_steps=4", "grpo.grpo.save_steps=2", "grpo.grpo.per_device_train_batch_size=8"),
    *("grpo.grpo.max_completion_length=24", "before.num_samples=1", "after.num_samples=1"),
    *("before.max_new_tokens=24", "after.max_new_tokens=24"),
)


def _recipe(r1):
    return r1.recipe(STAGES.format(log=r1.directory / "log"))


def _kill_with_stages(r1, process):
    """kill -9 of the command and of all that it started, as a power cut would."""
    process.kill()
    for pid in stage_pids(r1.store):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def _metrics(r1):
    """{stage/fingerprint: metrics.json's text} of all artifacts, without the reports, whose pages tell times."""
    paths = (path for path in r1.store.glob("*/*/metrics.json") if path.parts[-3] not in ("report", ".staging"))
    return {f"{path.parts[-3]}/{path.parts[-2]}": path.read_text() for path in paths}


def test_killed_run_is_taken_over_and_its_living_stage_is_not_started_twice(r1):
    recipe, log = _recipe(r1), r1.directory / "log"
    process = r1.start("run", recipe)
    wait_until(log.exists, 120, "the stage to start")
    process.kill()
    process.communicate()
    assert stage_pids(r1.store)
    output = r1("run", recipe)
    assert "first: took toy-" in output and "that process has died" in output
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["first", "second"]
    assert "Built 2 of 2 stages" in output


def test_stage_that_ended_after_its_run_was_killed_is_published_without_being_run_again(r1):
    recipe, log = _recipe(r1), r1.directory / "log"
    process = r1.start("run", recipe)
    wait_until(log.exists, 120, "the stage to start")
    process.kill()
    process.communicate()
    wait_until(lambda: list(r1.store.glob(".staging/*/metrics.json")), 60, "the stage to end alone")
    wait_until(lambda: len(stage_pids(r1.store)) == 1, 30, "only its careless helper to be left")
    r1("run", recipe)
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["first", "second"]


def test_run_killed_at_random_points_ends_with_the_same_artifacts(r1, tmp_path):
    moments = random.Random(0)
    undisturbed = R1(tmp_path / "other", r1.environment["PREFECT_API_URL"])
    undisturbed.directory.mkdir()
    recipe = _recipe(r1)
    undisturbed("run", recipe)
    for _ in range(3):
        process = r1.start("run", recipe)
        time.sleep(moments.uniform(2.0, 6.0))
        _kill_with_stages(r1, process)
    r1("run", recipe)
    assert _metrics(r1) == _metrics(undisturbed)
    assert r1.runs()[-1]["state"] == "done"
    assert "0 damaged" in r1("verify")


@pytest.mark.slow
def test_training_killed_at_random_points_ends_with_the_same_models(r1, tmp_path):
    """Every stage of the quickstart, made tiny: real TRL trainers resume from their checkpoints."""
    moments = random.Random(1)
    settings = [word for override in TINY_QUICKSTART for word in ("--set", override)]
    undisturbed = R1(tmp_path / "other", r1.environment["PREFECT_API_URL"])
    undisturbed.directory.mkdir()
    undisturbed("run", "quickstart", *settings)
    for _ in range(3):
        process = r1.start("run", "quickstart", *settings)
        time.sleep(moments.uniform(15.0, 45.0))
        _kill_with_stages(r1, process)
    r1("run", "quickstart", *settings)
    assert _weights(r1) == _weights(undisturbed)
    assert r1.runs()[-1]["state"] == "done"


def _weights(r1):
    """{stage/fingerprint: bytes of the weights} of every model."""
    paths = r1.store.glob("[a-z]*/*/model/model.safetensors")
    return {f"{path.parts[-4]}/{path.parts[-3]}": path.read_bytes() for path in paths}
