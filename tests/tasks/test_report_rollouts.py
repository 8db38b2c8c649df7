"""The report's curves and passages of what a policy wrote while it learnt."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.report.rollouts import NUM_PASSAGES, read_rollouts
from tasks.report import Report, report
from tests.tasks.report_fabric import FabricatedRun


def write(path, rows):
    """completions.parquet of (step, completion, verdict)."""
    columns = ("step", "completion", "verdict")
    records = [dict(zip(columns, row, strict=True)) | {"problem_id": f"p{i}"} for i, row in enumerate(rows)]
    schema = pa.schema(
        {"step": pa.int32(), "problem_id": pa.string(), "completion": pa.string()} | {"verdict": pa.string()}
    )
    pq.write_table(pa.Table.from_pylist(records, schema), path)
    return path


def lines(rollouts):
    return {line.label: (line.steps, line.values) for curve in rollouts.curves for line in curve.lines}


def test_rollouts_by_step_give_shares_worked_by_hand(tmp_path):
    rows = [
        (1, "3 + 4", "correct"), (1, "Wait, 3 * 4", "wrong"), (1, "no", "truncated"), (1, "no", None),
        (2, "等等，重新算一遍 let us see", "correct"), (2, "我们算一下", "wrong"),
    ]  # fmt: skip
    found = lines(read_rollouts(write(tmp_path / "completions.parquet", rows)))
    assert found["right"] == ([1, 2], [pytest.approx(100 / 3), 50])  # what was not judged is not counted
    assert found["reflecting"] == ([1, 2], [25, 50])
    assert found["chinese"] == ([1, 2], [0, 100])  # 7 characters of 10 words, and all of five
    assert found["mixed"] == ([1, 2], [0, 50])


def test_rollouts_without_verdict_reflection_or_chinese_draw_nothing(tmp_path):
    rollouts = read_rollouts(write(tmp_path / "completions.parquet", [(1, "3 + 4", None), (2, None, None)]))
    assert rollouts.curves == [] and rollouts.passages == []


def test_rollouts_all_wrong_still_draw_their_curve(tmp_path):
    found = lines(read_rollouts(write(tmp_path / "completions.parquet", [(1, "a", "wrong"), (2, "b", "wrong")])))
    assert found == {"right": ([1, 2], [0, 0])}


def test_passages_are_spread_over_the_steps_and_cut_around_the_word(tmp_path):
    rows = [(step, "x" * 500 + f" Hmm {step} " + "y" * 500, "wrong") for step in range(1, 12)]
    passages = read_rollouts(write(tmp_path / "completions.parquet", rows)).passages
    assert [one.step for one in passages] == [1, 3, 5, 7, 9, 11] and len(passages) == NUM_PASSAGES
    assert passages[0].word == "Hmm" and passages[0].before.startswith("…x") and passages[0].after.endswith("y…")
    assert len(passages[0].before) < 200


@pytest.mark.parametrize("text", ["I weighted it", "await", "recheckers", "不 对", "<think></think>"])
def test_words_that_only_look_like_reflection_do_not_count(tmp_path, text):
    assert read_rollouts(write(tmp_path / "completions.parquet", [(1, text, "wrong")])).passages == []


def test_report_of_a_grpo_stage_shows_its_rollouts_with_text_escaped(tmp_path):
    run = FabricatedRun(tmp_path)
    directory = run.add("grpo", "train_grpo", {}, {"num_steps": 2})
    (directory / "history.jsonl").write_text('{"step": 1, "reward": 0.5, "rewards/format/mean": 1.0}\n')
    write(directory / "completions.parquet", [(1, "<b>Wait</b> \u202e", "correct"), (2, "no", "wrong")])
    out = run.write(tmp_path / "out")
    report(Report(), out=out, artifacts=run.artifacts)
    page = (out / "report.html").read_text()
    assert "Right answers among the rollouts" in page and "Rollouts with words of reflection" in page
    assert "<mark>Wait</mark>" in page and "&lt;b&gt;" in page and "\u202e" not in page
