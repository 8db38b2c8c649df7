"""The other seeds of a recipe, as the flow found them in the store: what they scored, and their curves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.core.report.curves import MAX_LINES, Curve, Line, curves_of, read_history
from tasks.core.report.evaluations import Interval
from tasks.core.report.run import Run, Step, as_dict, as_number

SHARED_CURVES = ("Mean reward", "Mean response length")  # drawn for all seeds together


@dataclass(frozen=True)
class Seed:
    """One run of the recipe: its accuracies and their paired difference, None where it has none."""

    seed: int
    is_this: bool
    before: Interval | None
    after: Interval | None
    difference: Interval | None
    histories: dict[str, Path]


def seeds_of(run: Run, headline: dict[str, object]) -> list[Seed]:
    """This run and the others in `run.description["siblings"]`, by seed; empty when there are no others.

    `headline` is what this run's metrics.json holds.
    """
    others = [as_dict(one) for one in run.description.get("siblings") or []]
    own = as_number(run.description.get("seed"))
    if own is None or not others:
        return []
    seeds = [_seed(int(own), headline, {}, is_this=True)]
    for one in others:
        number = as_number(one.get("seed"))
        if number is not None:
            histories = {str(name): Path(str(path)) for name, path in as_dict(one.get("histories")).items()}
            seeds.append(_seed(int(number), as_dict(one.get("metrics")), histories, is_this=False))
    return sorted(seeds, key=lambda one: one.seed)


def with_seeds(curves: Sequence[Curve], step: Step, seeds: Sequence[Seed]) -> list[Curve]:
    """`curves` of one training stage; reward and length get a line for every seed that has them."""
    logs = {one.seed: _curves(one.histories.get(step.name), step.stage) for one in seeds if not one.is_this}
    own = next((one.seed for one in seeds if one.is_this), None)
    merged = []
    for curve in curves:
        lines = {seed: log[curve.title] for seed, log in logs.items() if curve.title in log}
        if curve.title in SHARED_CURVES and own is not None and lines:
            lines[own] = curve.lines[0]
            named = [replace(line, label=f"seed {seed}") for seed, line in sorted(lines.items())]
            curve = replace(curve, lines=named[:MAX_LINES])
        merged.append(curve)
    return merged


def _curves(path: Path | None, stage: str) -> dict[str, Line]:
    if path is None or not path.is_file():
        return {}
    return {curve.title: curve.lines[0] for curve in curves_of(stage, read_history(path)[0])}


def _seed(seed: int, metrics: dict[str, object], histories: dict[str, Path], *, is_this: bool) -> Seed:
    return Seed(
        seed,
        is_this,
        before=_interval(metrics, "accuracy_before"),
        after=_interval(metrics, "accuracy_after"),
        difference=_interval(metrics, "difference"),
        histories=histories,
    )


def _interval(metrics: dict[str, object], name: str) -> Interval | None:
    mean, low, high = (as_number(metrics.get(key)) for key in (name, f"{name}_low", f"{name}_high"))
    return None if mean is None or low is None or high is None else Interval(mean, low, high)
