"""Accuracy against what was varied: the steps of a training, or the tokens that a model was made to think."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tasks.core.report.evaluations import Evaluation, Interval
from tasks.core.report.plots import DASHES, HEIGHT_IN, SERIES, finish, start, styled
from tasks.core.report.run import Step, as_dict, as_number
from tasks.core.report.text import count, label, percent
from tasks.core.store.fingerprint import canonical_json

LOG_FROM = 8  # times the least: from here on a linear axis would press the first points together
VARIED = {"checkpoint", "thinking", "seed"}  # keys of an evaluation that may differ along a line


@dataclass(frozen=True)
class Point:
    """One evaluation: `x` on the axis, and the words that its budget or step is told in."""

    x: float
    accuracy: Interval
    words: str


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
    learning = _lines(evaluations, kinds, _at_step)
    budget = _lines(evaluations, kinds, _at_budget)
    sweeps = [Sweep("Accuracy while training", "optimizer step", learning)] if learning else []
    return [*sweeps, *([Sweep("Accuracy by thinking tokens", "mean thinking tokens", budget)] if budget else [])]


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
) -> list[tuple[str, list[Point]]]:
    """One line for each model and what the evaluations of it have in common, in the order of the run.

    Along a learning curve the checkpoint varies and the budget does not; along a budget curve it is the other way.
    """
    fixed = "thinking" if point_of is _at_step else "checkpoint"
    lines: dict[tuple[str, str], list[Point]] = {}
    for one in evaluations:
        if (point := point_of(one)) is not None:
            config = {key: value for key, value in one.step.identity_config.items() if key not in VARIED - {fixed}}
            lines.setdefault((_model_of(one, kinds), canonical_json(config)), []).append(point)
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
