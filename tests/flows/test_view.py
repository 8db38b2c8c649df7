"""What a person sees: plain lines in a pipe, a live table on a terminal, and the table of results."""

import os
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from flows.build import Event
from flows.plan import Outlook
from flows.view import RunView, duration, print_plan, print_results

EVALUATION = {
    "benchmark": "countdown", "accuracy": 0.25, "accuracy_low": 0.2, "accuracy_high": 0.3, "num_questions": 500,
    "num_samples": 4, "mean_tokens": 31.25, "truncation_rate": 0.015,
}  # fmt: skip
REPORT = {"before": "before", "after": "after", "difference": 0.2, "difference_low": 0.15, "difference_high": 0.25}


def _stage(name, kind="toy", gpus=0):
    resources = SimpleNamespace(gpus=gpus, nodes=1)
    spec = SimpleNamespace(name=name, stage=SimpleNamespace(name=kind), resources=resources)
    return SimpleNamespace(name=name, spec=spec, fingerprint="f" * 20)


def _plan(*stages):
    return SimpleNamespace(recipe=SimpleNamespace(name="test", description="A test"), stages=stages)


def _printed(show, *arguments):
    console = Console(width=200, record=True, file=open(os.devnull, "w"))
    show(console, *arguments)
    return console.export_text()


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.34, "12.3 s"), (245, "4 min 05 s"), (59.96, "1 min 00 s"), (7800, "2 h 10 min")]
)
def test_duration_is_written_for_people(seconds, text):
    assert duration(seconds) == text


def test_plan_adds_up_what_it_will_cost():
    outlooks = [
        Outlook(_stage("a"), True, "", 3.0),
        Outlook(_stage("b", gpus=2), False, "not built yet", 1800.0),
        Outlook(_stage("c"), False, "not built yet", 60.0),
        Outlook(_stage("d"), False, "not built yet", None),
    ]
    text = _printed(print_plan, _plan(), outlooks)
    cost = "about 31 min 00 s and 1.00 GPU hours, plus 1 never built here, so unknown"  # 1860 s; 2 x 0.5 h
    assert f"To build: 3 of 4 stages; estimated cost: {cost}." in text


def test_results_show_intervals_and_the_paired_difference():
    plan = _plan(_stage("before", "evaluate"), _stage("report", "report"))
    stages = {"before": {"metrics": EVALUATION, "cached": True}, "report": {"metrics": REPORT, "cached": False}}
    text = _printed(print_results, plan, {"stages": stages, "run_id": "r", "report": "/x/report.html"}, 61.0)
    row = next(line for line in text.splitlines() if line.startswith("before"))
    assert row.split("  ")[0] == "before"
    for cell in ("countdown", "25.0%", "20.0% to 30.0%", "500 x 4", "31.2", "1.5%"):
        assert cell in row
    assert "after against before: +20.0 points (95 % interval +15.0 to +25.0, paired by question)" in text
    assert "Built 1 of 2 stages; 1 min 01 s. Run r." in text and "Report: /x/report.html" in text


def test_lines_in_a_pipe_tell_changes_and_seldom_progress():
    console = Console(width=200, record=True, file=open(os.devnull, "w"))
    with RunView(console, _plan(_stage("sft"))) as view:
        view.listen(Event("sft", "building", "not built yet"))
        for done in range(100):
            progress = {"done": done, "total": 100, "unit": "steps", "note": "loss [1.5]"}
            view.listen(Event("sft", "running", progress=progress))
        view.listen(Event("sft", "built"))
    lines = console.export_text().splitlines()
    assert lines[:-1] == ["sft: building (not built yet)"]
    assert re.fullmatch(r"sft: built in 0\.\d s", lines[-1])


def test_lines_in_a_pipe_tell_at_once_where_a_job_stands_but_not_each_number_that_changes():
    console = Console(width=200, record=True, file=open(os.devnull, "w"))
    with RunView(console, _plan(_stage("sft"))) as view:
        view.listen(Event("sft", "building"))
        for rank in range(30, 0, -1):
            view.listen(Event("sft", "running", f"job 7 queued (Priority), {rank} before it in gpu"))
        view.listen(Event("sft", "running", "job 7 running on n1"))
        view.listen(Event("sft", "warning", "Slurm was not there to end job 7"))
    assert console.export_text().splitlines()[1:] == [
        "sft: job 7 queued (Priority), 30 before it in gpu",
        "sft: job 7 running on n1",
        "sft: Slurm was not there to end job 7",
    ]


def test_run_on_a_terminal_shows_a_live_line_per_stage(r1):
    recipe = r1.recipe("  first: {stage: toy, step_s: 0.5}\n  second: {stage: toy, source: first}\n")
    text = r1.on_terminal("run", recipe)
    assert "\x1b[?25l" in text and "\x1b[?25h" in text  # the cursor goes and comes back
    assert re.search(r"first .*running.* s .*━.*\d/3 steps state [0-9a-f]{4}", text)
    assert re.search(r"second.*waiting", text)
    assert "Built 2 of 2 stages" in text
