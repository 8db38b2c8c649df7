"""From a run to the page: gathers what the template shows and renders it with everything inlined."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from pydantic import ValidationError

from tasks.core.report import text
from tasks.core.report.captions import lesson_of
from tasks.core.report.curves import PLOTS, Curve, curves_of, read_history
from tasks.core.report.evaluations import Comparison, Evaluation, Interval
from tasks.core.report.examples import RULE, Example, group_problems
from tasks.core.report.funnels import funnels_of
from tasks.core.report.graph import describe_state, draw_graph
from tasks.core.report.nights import CAPTION as NIGHTS_CAPTION
from tasks.core.report.nights import Series, series_of
from tasks.core.report.numbers import rows_of
from tasks.core.report.plots import MUTED, SERIES, describe, draw_accuracies, draw_curve, draw_lengths
from tasks.core.report.rollouts import Passage, Rollouts, read_rollouts
from tasks.core.report.run import Run, Step
from tasks.core.report.seeds import Seed, seeds_of, with_seeds
from tasks.core.report.sweeps import draw_sweep, sweeps_of
from tasks.core.store.nights import Night

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent
MAX_FILES = 300  # rows of one stage's file table; checkpoints have a dozen files, sharded traces may have thousands
TRAINING_TITLES = {"train_sft": "supervised fine-tuning", "train_grpo": "GRPO", "train_ppo": "PPO"}
KINDS = {SERIES[0]: "before", SERIES[1]: "after", MUTED: "between"}
FILTERS = {
    "percent": text.percent,
    "points": text.points,
    "count": text.count,
    "duration": text.duration,
    "size": text.size,
    "moment": text.moment,
    "bounded": text.bounded,
    "label": text.label,
    "state": describe_state,
}


Figure = tuple[str, Markup, str, str]


@dataclass(frozen=True)
class Training:
    """One training stage: a sentence on what was logged (or why nothing is drawn), its plots, and passages of what it
    wrote. A figure is its title, the drawing, what it shows in numbers, and what it teaches."""

    step: Step
    title: str
    remark: str
    figures: list[Figure]
    passages: list[Passage]


@dataclass(frozen=True)
class BenchmarkView:
    """All evaluations on one benchmark, with the comparison of the first and the last when there are two.

    `detailed` are those, of the first and the last, whose lengths and verdicts are drawn; `kinds` says which is which.
    """

    name: str
    evaluations: list[Evaluation]
    comparison: Comparison | None
    accuracy_plot: Markup | None
    length_plot: Markup | None
    sweeps: list[Figure]
    detailed: list[Evaluation]
    kinds: list[str]
    verdicts: list[tuple[str, list[float]]]
    numbers: list[tuple[str, list[str]]]


def render(
    run: Run, evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison], examples: Sequence[Example]
) -> str:
    """The page as HTML text. Every string goes through `visible` and the template engine's escaping."""
    seeds = seeds_of(run, headline_metrics(run, evaluations, comparisons))
    trainings = [one for step in run.steps if step.stage in PLOTS and (one := _training(step, run.notes, seeds))]
    views = _benchmark_views(evaluations, comparisons, run.steps)
    return (
        make_environment(TEMPLATES)
        .get_template("report.html.j2")
        .render(
            run=run,
            title=text.label(run.description.get("recipe") or "Run without a name", 80),
            css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
            benchmarks=views,
            headline=comparisons[0] if comparisons else None,
            seeds=seeds,
            nights=_nights(run),
            nights_caption=NIGHTS_CAPTION,
            graph=draw_graph(run.steps) if run.steps else None,
            funnels=funnels_of(run.steps),
            trainings=trainings,
            examples=examples,
            rule=RULE,
            group_sizes=_group_sizes(comparisons),
            max_files=MAX_FILES,
        )
    )


def make_environment(folder: Path) -> "Environment":
    """The template engine for the templates in `folder`: every value is escaped, made visible and bounded as asked."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, finalize=_finalize, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= FILTERS | {"readable_json": _readable_json, "lesson": lesson_of}
    return environment


def _finalize(value: Any) -> Any:
    if value is None:
        return text.DASH
    return text.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _readable_json(value: Any) -> str:
    return text.bounded(json.dumps(value, indent=2, ensure_ascii=False, default=str), 16_000, 4_000)


def _nights(run: Run) -> list[Series]:
    """The nights of this recipe that the ledger had; entries that cannot be read are left out."""
    nights = []
    for one in run.description.get("nights") or []:
        try:
            nights.append(Night.model_validate(one))
        except ValidationError:
            run.notes.append("An entry of the nightly ledger could not be read and is left out.")
    return series_of(nights)


def _group_sizes(comparisons: Sequence[Comparison]) -> list[tuple[str, int]]:
    compared = next((one for one in comparisons if one.shared), None)
    return [(group, len(problems)) for group, problems in group_problems(compared).items()] if compared else []


def _training(step: Step, notes: list[str], seeds: Sequence[Seed]) -> Training | None:
    """None for a stage that the run never got to: the graph shows that already."""
    title = TRAINING_TITLES[step.stage]
    if step.directory is None:
        return None
    path = step.file("history.jsonl")
    if path is None:
        return Training(step, title, "The artifact has no history.jsonl, so there are no curves to draw.", [], [])
    history, num_unreadable = read_history(path)
    if num_unreadable:
        notes.append(f"{step.name}: {num_unreadable} line(s) of history.jsonl are not JSON objects and are left out.")
    written = step.file("completions.parquet")
    rollouts = read_rollouts(written) if written else Rollouts()
    curves = [*with_seeds(curves_of(step.stage, history), step, seeds), *rollouts.curves]
    figures = [
        (curve.title, draw_curve(curve), describe(curve), lesson_of(curve.title, step.stage)) for curve in curves
    ]
    return Training(step, title, _training_remark(step.stage, curves), figures, rollouts.passages)


def _training_remark(stage: str, curves: Sequence[Curve]) -> str:
    if not curves:
        return "history.jsonl holds none of the quantities drawn here."
    line = max((line for curve in curves for line in curve.lines), key=lambda line: len(line.steps))
    remark = (
        f"{len(line.steps):,} logged steps, the last is optimizer step {line.steps[-1]:,.0f}. Dots: logged values. "
    )
    if line.window > 1:
        remark += f"Lines: running mean over {line.window} logged steps. "
    remark += "Under each plot: the mean of the first and of the last tenth of the logged steps."
    if stage != "train_sft" and not any(curve.title.startswith("KL") for curve in curves):
        remark += " The KL from a reference model was not logged (TRL logs it only when beta is above 0)."
    return remark


def _benchmark_views(
    evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison], steps: Sequence[Step]
) -> list[BenchmarkView]:
    compared = {comparison.before.benchmark: comparison for comparison in comparisons}
    views = []
    for name in dict.fromkeys(one.benchmark for one in evaluations):
        group = [one for one in evaluations if one.benchmark == name]
        comparison = compared.get(name)
        drawn = [one for one in group if one.accuracy]
        colours = [_colour(one, comparison) for one in drawn]
        pair = [comparison.before, comparison.after] if comparison else group[:1]
        detailed = [one for one in pair if one.num_tokens]
        shades = [_colour(one, comparison) for one in detailed]
        views.append(
            BenchmarkView(
                name=name,
                evaluations=group,
                comparison=comparison,
                accuracy_plot=draw_accuracies(drawn, colours) if drawn else None,
                length_plot=draw_lengths(detailed, shades) if detailed else None,
                sweeps=[
                    (sweep.title, draw_sweep(sweep), sweep.description, lesson_of(sweep.title))
                    for sweep in sweeps_of(group, steps)
                ],
                detailed=detailed,
                kinds=[KINDS[shade] for shade in shades],
                verdicts=_verdict_shares(detailed),
                numbers=rows_of(group),
            )
        )
    return views


def _colour(evaluation: Evaluation, comparison: Comparison | None) -> str:
    """The first evaluation is drawn as "before" everywhere, the last as "after", those between them in grey."""
    if comparison is None or evaluation is comparison.before:
        return SERIES[0]
    return SERIES[1] if evaluation is comparison.after else MUTED


def _verdict_shares(group: Sequence[Evaluation]) -> list[tuple[str, list[float]]]:
    """Each verdict that occurs with its share of the completions in every evaluation, most frequent first."""
    totals = [max(1, sum(one.verdicts.values())) for one in group]
    names = {name: sum(one.verdicts.get(name, 0) for one in group) for one in group for name in one.verdicts}
    return [
        (name, [one.verdicts.get(name, 0) / total for one, total in zip(group, totals, strict=True)])
        for name in sorted(names, key=lambda name: -names[name])
    ]


def headline_metrics(run: Run, evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """What metrics.json holds. Accuracies and differences are shares (0–1); keys without a value are left out."""
    metrics: dict[str, Any] = {"num_stages": len(run.steps), "num_evaluations": len(evaluations)}
    if comparisons:
        first = comparisons[0]
        metrics |= {
            "benchmark": first.before.benchmark,
            "num_questions": len(first.shared) or first.after.num_questions,
        }
        metrics |= {"before": first.before.step.name, "after": first.after.step.name}
        metrics |= _bounds("accuracy_before", first.accuracy_before) | _bounds("accuracy_after", first.accuracy_after)
        metrics |= _bounds("difference", first.difference)
        metrics |= {"mean_tokens_before": first.before.mean_tokens, "mean_tokens_after": first.after.mean_tokens}
    metrics["accuracies"] = {one.step.name: one.accuracy.mean for one in evaluations if one.accuracy}
    return {key: value for key, value in metrics.items() if value is not None}


def _bounds(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {}
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
