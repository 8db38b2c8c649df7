"""Accuracy against what was varied: the steps of a training, or the tokens that a model was made to think."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tasks.core.report.evaluations import Evaluation, Interval
from tasks.core.report.plots import DASHES, HEIGHT_IN, SERIES, finish, start, styled
from tasks.core.report.run import Step, as_dict, as_number
from tasks.core.report.text import count, label, percent
from tasks.core.store.fingerprint import canonical_json

LOG_FROM = 8  # times the least: from here on a linear axis would press the first points together


@dataclass(frozen=True)
class Point:
    """One evaluation: `x` on the axis, and the words that its budget or step is told in."""

    x: float
    accuracy: Interval
    words: str


Lines = dict[tuple[str, str], list[Point]]
"""By the name of the model and the settings of its evaluations."""


@dataclass(frozen=True)
class Sweep:
    """One plot: lines of points in the order of x."""

    title: str
    axis: str
    lines: list[tuple[str, list[Point]]]

    @property
    def description(self) -> str:
        """Every point in words."""
        return "; ".join(
            f"{label(name)}: "
            + ", ".join(f"{one.words} {percent(one.accuracy.mean)} ({_bounds(one.accuracy)})" for one in points)
            for name, points in self.lines
        )


def sweeps_of(evaluations: Sequence[Evaluation], steps: Sequence[Step]) -> list[Sweep]:
    """What can be drawn of the evaluations of one benchmark: lines of two points and more, by model and settings."""
    kinds = {step.name: step.stage for step in steps}
    learning, budget = _lines(evaluations, kinds, _at_step), _lines(evaluations, kinds, _at_budget)
    for one in evaluations:
        _add_end(learning, one, steps)
    sweeps = [
        Sweep("Accuracy while training", "optimizer step", _drawn(learning)),
        Sweep("Accuracy by thinking tokens", "mean thinking tokens", _drawn(budget)),
    ]
    return [sweep for sweep in sweeps if sweep.lines]


@styled
def draw_sweep(sweep: Sweep) -> Markup:
    """Points with their intervals, joined by a line for each model."""
    axes, figure = start(HEIGHT_IN)
    places = [point.x for _, points in sweep.lines for point in points]
    if min(places) > 0 and max(places) >= LOG_FROM * min(places):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    for index, (name, points) in enumerate(sweep.lines):
        colour = SERIES[index % len(SERIES)]
        for point in points:
            axes.plot([point.x] * 2, _ends(point.accuracy), color=colour, linewidth=2.5, alpha=0.5)
        across, up = [point.x for point in points], [100 * point.accuracy.mean for point in points]
        dash = DASHES[index % len(DASHES)]
        axes.plot(across, up, color=colour, linestyle=dash, linewidth=2, marker="o", label=label(name, 28))
    axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]), top=min(102.0, axes.get_ylim()[1]))
    axes.set_xlabel(sweep.axis)
    axes.set_ylabel("accuracy (%), 95% interval")
    if len(sweep.lines) > 1:
        figure.legend(loc="outside upper left", ncols=2, handlelength=2.2, columnspacing=1.2)
    return finish(figure, f"{sweep.title}, by {sweep.axis}. {sweep.description}.")


def _at_step(evaluation: Evaluation) -> Point | None:
    step = as_number(evaluation.step.metrics.get("checkpoint_step"))
    if step is None or evaluation.accuracy is None:
        return None
    return Point(step, evaluation.accuracy, f"step {count(step)}")


def _at_budget(evaluation: Evaluation) -> Point | None:
    metrics = evaluation.step.metrics
    budget, tokens = as_dict(metrics.get("thinking_budget")), as_number(metrics.get("mean_thinking_tokens"))
    if not budget or tokens is None or evaluation.accuracy is None:
        return None
    named = [(name, as_number(budget.get(f"{key}_tokens"))) for name, key in (("least", "min"), ("most", "max"))]
    words = ", ".join(f"at {name} {count(value)}" for name, value in named if value is not None)
    return Point(tokens, evaluation.accuracy, f"{words or 'no bound'} (mean {count(round(tokens))})")


def _lines(
    evaluations: Sequence[Evaluation], kinds: dict[str, str], point_of: Callable[[Evaluation], Point | None]
) -> Lines:
    """One line for each model and what the evaluations of it have in common, in the order of the run.

    Along a learning curve the checkpoint varies and the budget does not; along a budget curve it is the other way.
    """
    lines: Lines = {}
    for one in evaluations:
        if (point := point_of(one)) is not None:
            settings = _settings(one, but="checkpoint" if point_of is _at_step else "thinking")
            lines.setdefault((_model_of(one, kinds), settings), []).append(point)
    return lines


def _add_end(lines: Lines, evaluation: Evaluation, steps: Sequence[Step]) -> None:
    """Put the model that a training began from at the start of its learning curve, the one that it made at its end."""
    model = _input_of(evaluation.step)
    if evaluation.accuracy is None or evaluation.step.metrics.get("checkpoint_step") is not None:
        return
    for step in steps:
        end = as_number(step.metrics.get("num_steps")) if step.fingerprint == model else None
        x = 0 if model and _input_of(step) == model else end
        points = lines.get((step.name, _settings(evaluation, but="checkpoint")), [])
        if x is not None and points and all(point.x != x for point in points):
            points.append(Point(x, evaluation.accuracy, f"step {count(x)}"))


def _input_of(step: Step) -> Any:
    """The fingerprint of the model that a step reads."""
    return as_dict(as_dict(step.record.get("identity")).get("inputs")).get("model")


def _settings(evaluation: Evaluation, *, but: str) -> str:
    """What the evaluations of one line have in common: all but `but`, and the seed."""
    return canonical_json(
        {key: value for key, value in evaluation.step.identity_config.items() if key not in (but, "seed")}
    )


def _drawn(lines: Lines) -> list[tuple[str, list[Point]]]:
    return [(name, sorted(points, key=lambda point: point.x)) for (name, _), points in lines.items() if len(points) > 1]


def _model_of(evaluation: Evaluation, kinds: dict[str, str]) -> str:
    """The name of the stage whose model was evaluated."""
    models = [name for name in evaluation.step.inputs if kinds.get(name, "").startswith(("train_", "fetch_model"))]
    return models[0] if models else "model"


def _ends(interval: Interval) -> list[float]:
    bounds = (interval.low, interval.high)
    return [100 * (interval.mean if bound is None else bound) for bound in bounds]


def _bounds(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return "interval not known"
    return f"{percent(interval.low)} to {percent(interval.high)}"
