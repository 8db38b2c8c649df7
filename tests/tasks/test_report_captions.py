"""Every plot of the report teaches: one line under it on what it means, what healthy and sick look like."""

import html
import re
from pathlib import Path

import pytest

from tasks.core.report.captions import lesson_of
from tasks.core.report.curves import PLOTS
from tasks.report import Report, report
from tests.tasks.report_fabric import FabricatedRun, grpo_history, sft_history, write_history, write_rows

FIGURE, LESSON = re.compile("<figure>.*?</figure>", re.DOTALL), re.compile('<span class="lesson">([^<]*)</span>')
RIGHT_QS = [[1, 0], [0, 0], [1, 1]]
OTHERS = ("Mean reward", "Mean of each reward", "Right answers among the rollouts", "Rollouts with words of reflection")
OTHERS += (
    "Language of the rollouts",
    "Accuracy",
    "Completion lengths",
    "Verdicts",
    "Accuracy while training",
    "Accuracy by thinking tokens",
)
TITLES = [*((title, stage) for stage, plots in PLOTS.items() for title, *_ in plots), *((one, "") for one in OTHERS)]


def run_with_every_plot(root: Path) -> FabricatedRun:
    run = FabricatedRun(root)
    write_history(run.add("sft", "train_sft", {}, {}), sft_history(20))
    extra = {"frac_reward_zero_std": 0.2, "dynamic_sampling/kept_share": 0.8, "value_loss": 0.1}
    rollouts = [
        {"step": step, "problem_id": "p", "completion": "Wait, 等等 we go on", "verdict": "correct"} for step in (1, 2)
    ]
    for name in ("grpo", "ppo"):
        directory = run.add(name, f"train_{name}", {"model": "sft"}, {})
        write_history(directory, [row | extra | {"explained_variance": 0.4} for row in grpo_history(20)])
        write_rows(directory / "completions.parquet", rollouts)
    run.add_evaluation("before", "sft", RIGHT_QS)
    run.add_evaluation("after", "grpo", RIGHT_QS)
    for step in (1, 2):
        run.add_evaluation(f"at_{step}", "grpo", RIGHT_QS, checkpoint_step=step)
        budget = {"min_tokens": None, "max_tokens": 50 * step}
        run.add_evaluation(f"budget_{step}", "grpo", RIGHT_QS, thinking_budget=budget, mean_thinking_tokens=40.0 * step)
    return run


@pytest.mark.parametrize(("title", "stage"), TITLES)
def test_caption_says_what_is_healthy_and_what_is_sick(title: str, stage: str) -> None:
    lesson = lesson_of(title, stage)
    assert "Healthy: " in lesson and "Sick: " in lesson and 80 < len(lesson) < 230


def test_caption_of_a_loss_depends_on_the_training() -> None:
    assert len({lesson_of("Loss", stage) for stage in PLOTS}) == len(PLOTS) == 3


def test_report_every_plot_has_its_own_caption(tmp_path: Path) -> None:
    run = run_with_every_plot(tmp_path)
    out = run.write(tmp_path / "out")
    report(Report(), out=out, artifacts=run.artifacts)
    figures = FIGURE.findall((out / "report.html").read_text(encoding="utf-8"))
    lessons = [LESSON.findall(figure) for figure in figures]
    assert all(len(found) == 1 for found in lessons)
    # All plots of three trainings, the two of the rewards and the three of the rollouts for GRPO and PPO, and five of
    # the evaluations: accuracy, lengths, verdicts, learning curve, budget curve.
    assert len(figures) == sum(map(len, PLOTS.values())) + 2 * (2 + 3) + 5
    assert {html.unescape(found[0]) for found in lessons} == {lesson_of(*one) for one in TITLES}
