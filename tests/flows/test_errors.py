"""What a user may do wrong, through the real command: exit code 2, one paragraph, no traceback."""

import json
import subprocess

import pytest
from small_disk import small_disk

PROBLEMS = """\
  problems:
    stage: prepare_data
    source: {kind: countdown, num_numbers: [3], max_number: 10, max_target: 99, operators: "+-*", prompt: tokens}
    num_train: 4
    num_eval: 2
"""
LOCAL = """\
  problems:
    stage: prepare_data
    source: {kind: local, path: PATH, question_column: question, answer_column: answer}
    num_train: 1
    num_eval: 0
"""


def _refused(r1, recipe, *arguments):
    """The message of `r1 run`, which must end with exit code 2 and a single paragraph about the mistake."""
    output = r1("run", recipe, *arguments, exit_code=2)
    message = output[output.index("r1: ") :]
    assert message.count("r1: ") == 1
    assert "\n\n" not in message
    return message


def test_unknown_key_is_refused_with_name_line_and_nearest(offline_r1):
    message = _refused(offline_r1, offline_r1.recipe(PROBLEMS.replace("num_train", "num_trian")))
    assert "num_trian" in message and "nearest: num_train" in message and "test.yaml:8" in message


def test_wrong_type_is_refused(offline_r1):
    message = _refused(offline_r1, offline_r1.recipe(PROBLEMS.replace("num_train: 4", "num_train: four")))
    assert "problems.num_train" in message and '"four"' in message and "integer" in message


def test_missing_recipe_is_refused_with_the_recipes_there_are(offline_r1):
    message = _refused(offline_r1, "quickstrat")
    assert "Did you mean quickstart?" in message


def test_missing_file_is_refused_before_anything_is_built(offline_r1):
    message = _refused(offline_r1, offline_r1.recipe(LOCAL.replace("PATH", "nowhere.jsonl")))
    assert "nowhere.jsonl" in message
    assert offline_r1.runs() == []


def test_stage_that_refers_to_a_later_one_is_refused(offline_r1):
    message = _refused(offline_r1, offline_r1.recipe("  one: {stage: toy, source: two}\n  two: {stage: toy}\n"))
    assert "names two, which comes later: move it up" in message


def test_rebuild_of_an_unknown_stage_is_refused(offline_r1):
    message = _refused(offline_r1, offline_r1.recipe(PROBLEMS), "--rebuild", "problem")
    assert "--rebuild problem: the recipe has no such stage; nearest: problems" in message


@pytest.mark.parametrize("argument", ["0", "-1", "two"])
def test_jobs_that_are_no_positive_number_are_refused(offline_r1, argument):
    output = offline_r1("run", "quickstart", "--jobs", argument, exit_code=2)
    assert f"'{argument}' is not allowed: give a whole number, 1 or more" in output


def test_empty_data_set_is_refused_by_the_stage(r1, tmp_path):
    (tmp_path / "rows.jsonl").write_text("")
    message = _refused(r1, r1.recipe(LOCAL.replace("PATH", str(tmp_path / "rows.jsonl"))))
    assert "rows.jsonl" in message


def test_data_set_without_gold_is_refused_by_the_stage_and_the_log_is_named(r1, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1?", "answer": ""}\n')
    message = _refused(r1, r1.recipe(LOCAL.replace("PATH", str(tmp_path / "rows.jsonl"))))
    assert "stage problems failed" in message and "gold present: 1 -> 0" in message
    assert f"log: {r1.store}/.staging/prepare_data-" in message
    assert r1.runs()[0]["state"] == "failed"


def test_crash_names_the_log_and_shows_its_tail_once(r1):
    process = r1.start("run", r1.recipe("  bad: {stage: toy, fail: crash}\n"))
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.startswith("r1: stage bad failed: ValueError: the toy was told to crash\nlog: ")
    assert errors.rstrip().endswith("ValueError: the toy was told to crash")  # the log's last line
    assert "told to crash" not in output


@pytest.fixture
def disk(tmp_path):
    """A real file system of 4 MB, where r1's store is."""
    with small_disk(tmp_path / "store", "4m") as place:
        yield place


def test_disk_full_during_a_stage_is_the_users_to_mend_and_the_next_run_resumes(disk, r1, tmp_path):
    recipe = r1.recipe(f"  only: {{stage: toy, fail: fill, log: {tmp_path / 'log'}}}\n")
    message = _refused(r1, recipe)
    assert f"no space left on {disk}" in message or "no space left" in message
    assert f"the store {disk} has" in message and "--store DIR or R1_STORE=DIR" in message
    next(disk.glob(".staging/*/filler")).unlink()
    r1("run", recipe, "--set", "only.fail=''")
    assert [run["state"] for run in r1.runs()] == ["failed", "done"]


def test_store_that_is_read_only_is_refused_before_anything_starts(disk, offline_r1):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    message = _refused(offline_r1, offline_r1.recipe(PROBLEMS))
    assert f"cannot use the store {disk}: Read-only file system" in message


def test_corrupt_record_is_rebuilt_and_the_plan_says_why(r1):
    recipe = r1.recipe("  only: {stage: toy}\n")
    r1("run", recipe)
    record = next(r1.store.glob("toy/*/record.json"))
    before = json.loads(record.read_text())
    record.write_text(record.read_text()[:100])
    output = r1("run", recipe)
    assert "build (the artifact is damaged: record.json" in output
    assert "Built 1 of 1 stages" in output
    after = json.loads(record.read_text())
    assert (after["fingerprint"], after["metrics"]) == (before["fingerprint"], before["metrics"])


def test_damaged_run_file_does_not_stop_a_plan(offline_r1):
    broken = offline_r1.store / "runs" / "broken" / "run.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    assert "To build: 1 of 1 stages" in offline_r1("plan", offline_r1.recipe(PROBLEMS))
