"""The report's curves over evaluations: accuracy by training step and by thinking tokens; and the table of numbers."""

from pathlib import Path
from typing import Any

from tasks.core.files import read_json
from tasks.core.report.evaluations import compare, load_evaluations
from tasks.core.report.numbers import rows_of
from tasks.core.report.run import load_run
from tasks.core.report.sweeps import Sweep, draw_sweep, sweeps_of
from tests.tasks.report_fabric import FabricatedRun, change_record

HALF_QS = [[1], [0]]  # accuracy ½; two questions: t(1) = 12.706 makes the interval all of 0 to 1
QUARTER_QS, FULL_QS = [[1], [0], [0], [0]], [[1], [1], [1], [1]]


def trained(root: Path) -> FabricatedRun:
    run = FabricatedRun(root)
    run.add("base", "fetch_model", {}, {})
    run.add("grpo", "train_grpo", {"model": "base"}, {})
    return run


def sweeps(run: FabricatedRun) -> list[Sweep]:
    loaded = load_run(run.write(run.root / "out"), run.artifacts)
    return sweeps_of(load_evaluations(loaded), loaded.steps)


def under(limit: int | None, tokens: float | None, least: int | None = None) -> dict[str, Any]:
    return {"thinking_budget": {"min_tokens": least, "max_tokens": limit}, "mean_thinking_tokens": tokens}


def change_config(directory: Path, **changes: Any) -> None:
    identity = read_json(directory / "record.json")["identity"]
    change_record(directory, identity=identity | {"config": identity["config"] | changes})


def test_budget_curve_orders_points_by_what_was_thought(tmp_path: Path) -> None:
    run = trained(tmp_path)
    run.add_evaluation("long", "grpo", FULL_QS, **under(None, 480.4, 400))
    run.add_evaluation("short", "grpo", QUARTER_QS, **under(64, 60.0))
    run.add_evaluation("free", "grpo", HALF_QS, **under(None, 200.0))
    run.add_evaluation("plain", "grpo", HALF_QS)
    (budget,) = sweeps(run)
    ((name, points),) = budget.lines
    assert (budget.title, budget.axis, name) == ("Accuracy by thinking tokens", "mean thinking tokens", "grpo")
    assert [(point.x, point.accuracy.mean) for point in points] == [(60.0, 0.25), (200.0, 0.5), (480.4, 1.0)]
    # Wilson, 4 of 4: from 4 / (4 + 1.96²) = 0.510.
    assert budget.description == (
        "grpo: at most 64 (mean 60) 25.0% (0.0% to 100.0%), no bound (mean 200) 50.0% (0.0% to 100.0%), "
        "at least 400 (mean 480) 100.0% (51.0% to 100.0%)"
    )
    drawing = draw_sweep(budget)
    assert 'aria-label="Accuracy by thinking tokens, by mean thinking tokens. grpo: at most 64' in drawing


def test_budget_curve_of_each_model_and_setting_is_a_line_of_its_own(tmp_path: Path) -> None:
    run = trained(tmp_path)
    for model in ("base", "grpo"):
        for limit in (64, 128):
            change_config(
                run.add_evaluation(f"{model}_{limit}", model, HALF_QS, **under(limit, limit - 4.0)),
                thinking={"max_tokens": limit},
            )
    change_config(run.add_evaluation("other", "grpo", HALF_QS, **under(256, 250.0)), temperature=0.1)
    (budget,) = sweeps(run)
    assert [(name, [point.x for point in points]) for name, points in budget.lines] == [
        ("base", [60.0, 124.0]),
        ("grpo", [60.0, 124.0]),  # the fifth has no other with its temperature
    ]


def test_budget_curve_needs_two_points_with_numbers(tmp_path: Path) -> None:
    run = trained(tmp_path)
    run.add_evaluation("only", "grpo", HALF_QS, **under(64, 60.0))
    run.add_evaluation("torn", "grpo", HALF_QS, **under(64, None))
    run.add_evaluation("odd", "grpo", HALF_QS, thinking_budget="64", mean_thinking_tokens=60.0)
    assert sweeps(run) == []


def test_learning_curve_orders_steps_and_leaves_the_rest_out(tmp_path: Path) -> None:
    run = trained(tmp_path)
    run.add("ppo", "train_ppo", {"model": "grpo"}, {})
    for step, right_QS in ((200, FULL_QS), (0, QUARTER_QS), (100, HALF_QS)):
        change_config(
            run.add_evaluation(f"at_{step}", "grpo", right_QS, checkpoint_step=step), checkpoint=step, seed=step
        )
    run.add_evaluation("end", "grpo", HALF_QS)  # how long the training took is not known, but ppo begins here
    run.add_evaluation("odd", "grpo", HALF_QS, checkpoint_step="last")
    run.add_evaluation("ppo_only", "ppo", HALF_QS, checkpoint_step=50)
    (learning,) = sweeps(run)
    (name, points), (other, started) = learning.lines
    assert other == "ppo" and [point.x for point in started] == [0, 50]
    assert (learning.title, learning.axis, name) == ("Accuracy while training", "optimizer step", "grpo")
    assert [(point.x, point.accuracy.mean) for point in points] == [(0, 0.25), (100, 0.5), (200, 1.0)]
    assert learning.description.startswith("grpo: step 0 25.0% (0.0% to 100.0%), step 100 50.0%")


def test_learning_curve_has_the_model_before_and_after_the_training_at_its_ends(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("base", "fetch_model", {}, {})
    run.add("grpo", "train_grpo", {"model": "base"}, {"num_steps": 250})
    run.add("other", "train_grpo", {"model": "base"}, {"num_steps": 90}, config={"seed": 1})
    for name, model, right_QS in (("before", "base", QUARTER_QS), ("after", "grpo", FULL_QS)):
        change_config(run.add_evaluation(name, model, right_QS), seed=7)
    change_config(run.add_evaluation("at_100", "grpo", HALF_QS, checkpoint_step=100), checkpoint=100)
    change_config(
        run.add_evaluation("greedy", "grpo", HALF_QS), temperature=0.1
    )  # other settings: no point of this line
    run.add_evaluation("after_other", "other", HALF_QS)  # none of its checkpoints was asked: no curve
    (learning,) = sweeps(run)
    ((name, points),) = learning.lines
    assert name == "grpo"
    assert [(point.x, point.accuracy.mean, point.words) for point in points] == [
        (0, 0.25, "step 0"), (100, 0.5, "step 100"), (250, 1.0, "step 250"),
    ]  # fmt: skip


def test_learning_curve_whose_last_checkpoint_is_the_end_has_it_once(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path)
    run.add("base", "fetch_model", {}, {})
    run.add("grpo", "train_grpo", {"model": "base"}, {"num_steps": 200})
    run.add_evaluation("after", "grpo", FULL_QS)
    for step in (100, 200):
        change_config(run.add_evaluation(f"at_{step}", "grpo", HALF_QS, checkpoint_step=step), checkpoint=step)
    (learning,) = sweeps(run)
    assert [(point.x, point.accuracy.mean) for point in learning.lines[0][1]] == [(100, 0.5), (200, 0.5)]


def test_comparison_prefers_whole_models_to_points_of_a_curve(tmp_path: Path) -> None:
    run = trained(tmp_path)
    run.add_evaluation("before", "base", HALF_QS)
    run.add_evaluation("at_100", "grpo", HALF_QS, checkpoint_step=100)
    run.add_evaluation("after", "grpo", HALF_QS)
    run.add_evaluation("budget", "grpo", HALF_QS, **under(64, 60.0))
    loaded = load_run(run.write(tmp_path / "out"), run.artifacts)
    (comparison,) = compare(load_evaluations(loaded), loaded.notes)
    assert (comparison.before.step.name, comparison.after.step.name) == ("before", "after")


def test_comparison_takes_the_last_checkpoint_of_a_model_that_has_nothing_else(tmp_path: Path) -> None:
    run = trained(tmp_path)
    run.add("sft", "train_sft", {"model": "base"}, {})
    for model in ("base", "sft"):
        run.add_evaluation(f"eval_{model}", model, HALF_QS)
    for step in (1, 2):
        run.add_evaluation(f"at_{step}", "grpo", HALF_QS, checkpoint_step=step)
    loaded = load_run(run.write(tmp_path / "out"), run.artifacts)
    (comparison,) = compare(load_evaluations(loaded), loaded.notes)
    assert (comparison.before.step.name, comparison.after.step.name) == ("eval_base", "at_2")


def test_comparison_of_checkpoints_alone_is_of_the_first_and_the_last(tmp_path: Path) -> None:
    run = trained(tmp_path)
    for step in (1, 2, 3):
        run.add_evaluation(f"at_{step}", "grpo", HALF_QS, checkpoint_step=step)
    loaded = load_run(run.write(tmp_path / "out"), run.artifacts)
    (comparison,) = compare(load_evaluations(loaded), loaded.notes)
    assert (comparison.before.step.name, comparison.after.step.name) == ("at_1", "at_3")


def test_numbers_show_what_the_evaluations_have(tmp_path: Path) -> None:
    run = trained(tmp_path)
    shares = {"mean": 0.6, "low": 0.5, "high": 0.7}
    new: dict[str, Any] = {
        "pass_at_k": {"1": shares, "4": shares | {"mean": 0.8}},
        "language_mix": {"en": 0.9, "zh": 0.1},
    }
    new |= {"maj_at_num_samples": 0.7, "maj_at_num_samples_low": 0.65, "maj_at_num_samples_high": 0.75}
    run.add_evaluation("old", "base", HALF_QS, mean_tokens=40.0)
    run.add_evaluation("new", "grpo", HALF_QS, reflection_rate=0.25, median_tokens=float("nan"), **new)
    loaded = load_run(run.write(tmp_path / "out"), run.artifacts)
    rows = dict(rows_of(load_evaluations(loaded)))
    assert rows["Accuracy (pass@1)"] == ["50.0%", "50.0%"]
    assert rows["pass@4"] == ["–", "80.0% (50.0% to 70.0%)"]
    assert rows["Majority of the samples"] == ["–", "70.0% (65.0% to 75.0%)"]
    assert rows["With words of reflection"] == ["–", "25.0%"]
    assert rows["Languages"] == ["–", "Latin letters 90%, Chinese 10%"]
    assert "Median length" not in rows and "Mean thinking tokens" not in rows
