"""The report stage: its numbers, its choices and what it does when parts of a run are missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.core.files import read_json
from tasks.core.report.run import load_run
from tasks.report import Report, report
from tests.tasks.report_fabric import (
    FabricatedRun,
    change_record,
    change_rows,
    draw_right,
    fabricate_quickstart,
    grpo_history,
    sft_history,
    write_history,
)

BEFORE_QS = [[1, 0], [0, 0], [1, 1], [0, 0]]  # question means ½, 0, 1, 0: accuracy 0.375
AFTER_QS = [[1, 1], [1, 0], [1, 1], [0, 1]]  # question means 1, ½, 1, ½: accuracy 0.75


def build(run: FabricatedRun, config: Report | None = None) -> tuple[str, dict]:
    """The page and the metrics of a fabricated run."""
    out = run.write(run.root / "out")
    report(config or Report(), out=out, artifacts=run.artifacts)
    return (out / "report.html").read_text(encoding="utf-8"), read_json(out / "metrics.json")


def test_report_two_evaluations_give_paired_difference(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("sft", "train_sft", {}, {})
    run.add_evaluation("first", "sft", BEFORE_QS)
    run.add_evaluation("last", "sft", AFTER_QS)
    page, metrics = build(run)
    assert (metrics["before"], metrics["after"], metrics["num_questions"]) == ("first", "last", 4)
    assert (metrics["accuracy_before"], metrics["accuracy_after"]) == (0.375, 0.75)
    # Question differences ½, ½, 0, ½: mean 0.375, sd 0.25, standard error 0.125, t(3) = 3.182.
    assert metrics["difference"] == pytest.approx(0.375)
    assert metrics["difference_low"] == pytest.approx(0.375 - 3.182 * 0.125)
    assert metrics["difference_high"] == pytest.approx(0.375 + 3.182 * 0.125)
    for shown in ("37.5%", "75.0%", "+37.5", "−2.3 to +77.3", "No change can be claimed"):
        assert shown in page


def test_report_three_evaluations_compare_first_with_last(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("sft", "train_sft", {}, {})
    run.add_evaluation("base", "sft", BEFORE_QS)
    run.add_evaluation("middle", "sft", [[0, 0]] * 4)
    run.add_evaluation("end", "sft", AFTER_QS)
    _, metrics = build(run)
    assert (metrics["before"], metrics["after"]) == ("base", "end")
    assert metrics["accuracies"] == {"base": 0.375, "middle": 0.0, "end": 0.75}


def test_report_two_benchmarks_are_never_compared_with_each_other(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("sft", "train_sft", {}, {})
    run.add_evaluation("aime", "sft", BEFORE_QS, benchmark="aime24")
    run.add_evaluation("math", "sft", AFTER_QS, benchmark="math_500")
    page, metrics = build(run)
    assert "difference" not in metrics
    assert "evaluated once" in page


def test_report_different_questions_compares_the_shared_ones_and_says_so(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("sft", "train_sft", {}, {})
    run.add_evaluation("first", "sft", BEFORE_QS)
    run.add_evaluation("last", "sft", [*AFTER_QS, [0, 0], [0, 0]])
    page, metrics = build(run)
    assert (metrics["num_questions"], metrics["accuracy_after"]) == (4, 0.75)
    assert "share 4 questions; the 2 that only one" in page


def test_report_completions_missing_falls_back_to_metrics_without_interval(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("sft", "train_sft", {}, {})
    (run.add_evaluation("first", "sft", BEFORE_QS) / "completions.parquet").unlink()
    run.add_evaluation("last", "sft", AFTER_QS)
    page, metrics = build(run)
    assert (metrics["accuracy_before"], metrics["accuracy_after"]) == (0.375, 0.75)
    assert "difference" not in metrics
    assert "first: no completions.parquet" in page
    assert page.count('<i class="after"') > 0 == page.count('<i class="before"')  # verdicts only where there are some
    assert "cannot be said without paired completions" in page


def test_report_metrics_that_contradict_completions_are_pointed_out(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("sft", "train_sft", {}, {})
    run.add_evaluation("only", "sft", BEFORE_QS, accuracy=0.9)
    page, metrics = build(run)
    assert "only: metrics.json states an accuracy of 90.00%, its completions give 37.50%" in page
    assert metrics["accuracies"] == {"only": 0.375}


def test_report_evaluations_with_other_settings_are_pointed_out(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("sft", "train_sft", {}, {})
    run.add_evaluation("first", "sft", BEFORE_QS)
    last = run.add_evaluation("last", "sft", AFTER_QS)
    identity = read_json(last / "record.json")["identity"]
    identity["config"]["max_new_tokens"] = 400
    change_record(last, identity=identity)
    page, _ = build(run)
    assert "used different settings" in page
    assert "max_new_tokens: 200 → 400" in page


def test_report_accuracy_that_fell_is_not_called_a_rise(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("sft", "train_sft", {}, {})
    run.add_evaluation("first", "sft", draw_right(1, 200, 4, 0.6))
    run.add_evaluation("last", "sft", draw_right(2, 200, 4, 0.3))
    page, metrics = build(run)
    assert metrics["difference_high"] < 0
    assert "Accuracy fell" in page and "−" in page and "Accuracy rose" not in page


def test_report_no_difference_claims_none(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("sft", "train_sft", {}, {})
    run.add_evaluation("first", "sft", draw_right(1, 100, 2, 0.5))
    run.add_evaluation("last", "sft", draw_right(7, 100, 2, 0.5))
    page, metrics = build(run)
    assert metrics["difference_low"] < 0 < metrics["difference_high"]
    assert "No change can be claimed" in page


def test_report_run_without_evaluation_or_training_says_so(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("data", "prepare_data", {}, {"num_train": 10})
    page, metrics = build(run)
    assert metrics == {"num_stages": 1, "num_evaluations": 0, "accuracies": {}}
    for sentence in (
        "no accuracy to report",
        "trained nothing",
        "No stage of this run filtered data",
        "no two evaluations",
    ):
        assert sentence in page


def test_report_two_grpo_stages_each_have_their_curves(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    for name in ("reasoning_rl", "all_scenario_rl"):
        write_history(run.add(name, "train_grpo", {}, {}), grpo_history(30, with_kl=name == "reasoning_rl"))
    page, _ = build(run)
    for name in ("reasoning_rl", "all_scenario_rl"):
        assert f"<h3>{name} <small>GRPO</small></h3>" in page
    assert page.count("<h4>Mean reward</h4>") == page.count("<h4>Mean of each reward</h4>") == 2
    assert page.count("<h4>KL from the reference model</h4>") == 1
    assert page.count("was not logged") == 1


def test_report_history_missing_or_damaged_is_pointed_out(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("silent", "train_grpo", {}, {})
    torn = run.add("torn", "train_sft", {}, {})
    write_history(torn, sft_history(20))
    with (torn / "history.jsonl").open("a") as file:
        file.write('{"step": 21, "lo')
    page, _ = build(run)
    assert "has no history.jsonl" in page
    assert "torn: 1 line(s) of history.jsonl are not JSON objects" in page
    assert "20 logged steps" in page


def test_report_stage_that_failed_is_shown_without_artifact(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("sft", "train_sft", {}, {})
    run.rows.append(
        {"name": "grpo", "stage": "train_grpo", "state": "failed", "wall_s": 3.0, "inputs": {"model": "sft"}}
    )
    page, metrics = build(run)
    assert metrics["num_stages"] == 2
    assert "grpo: train_grpo, ✗ failed · 3.0 s" in page
    assert "This run made no artifact of this stage." in page


def test_report_without_run_description_takes_order_and_inputs_from_records(tmp_path: Path) -> None:
    run = fabricate_quickstart(tmp_path, num_questions=20, num_samples=1, num_steps=5)
    out = tmp_path / "alone"
    out.mkdir()
    report(Report(), out=out, artifacts=run.artifacts)
    steps = {step.name: step for step in load_run(out, run.artifacts).steps}
    assert list(steps) == list(run.artifacts)
    assert steps["grpo"].inputs == ("sft", "data")
    assert steps["grpo"].stage == "train_grpo"


def test_report_record_missing_is_noted_and_damaged_is_refused(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    directory = run.add("data", "prepare_data", {}, {})
    (directory / "record.json").unlink()
    page, _ = build(run)
    assert "data: the artifact has no record.json" in page
    (directory / "record.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"record\.json is not JSON .* 'data' is damaged"):
        build(run)
    with pytest.raises(UserError, match=r"'gone'.*is not a directory"):
        report(Report(), out=tmp_path, artifacts={"gone": tmp_path / "gone"})


def test_report_huge_completions_and_tables_stay_bounded(tmp_path: Path) -> None:
    run = fabricate_quickstart(tmp_path, num_questions=30, num_samples=1, num_steps=2000)
    huge = {"completion": "x" * 1_000_000, "prompt": "p" * 100_000, "answer": "a" * 100_000}
    for name in ("eval_sft", "eval_grpo"):
        change_rows(run.artifacts[name] / "completions.parquet", dict.fromkeys(range(30), huge))
    files = {f"shards/{index:05d}.parquet": {"size": 9, "sha256": "0" * 64} for index in range(5000)}
    change_record(run.artifacts["traces"], files=files)
    page, _ = build(run)
    assert len(page.encode()) < 1_500_000
    assert "994,000 characters left out" in page
    assert "… and 4,700 more" in page


def test_report_command_line_writes_both_files(tmp_path: Path) -> None:
    run = fabricate_quickstart(tmp_path, num_questions=40, num_samples=2, num_steps=20)
    out = run.write(tmp_path / "out")
    command = [sys.executable, "-m", "tasks.report", str(out)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert read_json(out / "status.json")["state"] == "done"
    assert read_json(out / "metrics.json")["num_questions"] == 40
    assert (out / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_report_same_inputs_give_the_same_page(tmp_path: Path) -> None:
    run = fabricate_quickstart(tmp_path, num_questions=20, num_samples=1, num_steps=20)
    assert build(run) == build(run)
