"""Evaluations of a run and the before/after comparison on the same questions.

Legend for shapes: Q questions, S samples a question (it may differ between questions).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core import statistics
from tasks.core.report.run import Run, Step, as_number
from tasks.core.verdict import Verdict

RIGHT = frozenset(verdict.value for verdict in Verdict if verdict.is_right)
TABLE_COLUMNS = ["problem_id", "sample", "verdict", "num_tokens", "truncated"]
SWEPT = ("checkpoint_step", "thinking_budget")  # keys of metrics.json of evaluations that make up a curve
AGREEMENT = 5e-4  # half of the last digit that the page prints: metrics.json and completions may not differ by more


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; the bounds are None when they are not known."""

    mean: float
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation. `right` maps a problem to its S zeros and ones; it is empty when completions are missing."""

    step: Step
    benchmark: str
    accuracy: Interval | None
    right: dict[str, list[float]]
    num_tokens: list[int]
    verdicts: dict[str, int]
    mean_tokens: float | None
    truncation_rate: float | None
    no_answer_rate: float | None
    num_questions: int | None
    num_samples: float | None


@dataclass(frozen=True)
class Comparison:
    """First against last evaluation of a benchmark. `difference` is paired by question over the `shared` ones."""

    before: Evaluation
    after: Evaluation
    shared: list[str]
    accuracy_before: Interval
    accuracy_after: Interval
    difference: Interval | None
    changed_settings: list[str]


def load_evaluations(run: Run) -> list[Evaluation]:
    """Every evaluation of the run in its order. What could not be read is added to `run.notes`."""
    return [_load_evaluation(step, run.notes) for step in run.of_stage("evaluate")]


def compare(evaluations: Sequence[Evaluation], notes: list[str]) -> list[Comparison]:
    """One comparison a benchmark that was evaluated at least twice: the first in the run's order against the last.

    The points of a learning or budget curve count only for a model that is not evaluated otherwise, or where fewer than
    two evaluations would be left.
    """
    by_benchmark: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        if evaluation.accuracy:
            by_benchmark.setdefault(evaluation.benchmark, []).append(evaluation)
    groups = []
    for group in by_benchmark.values():
        whole = {one.step.inputs for one in group if not is_swept(one.step.metrics)}
        chosen = [one for one in group if not is_swept(one.step.metrics) or one.step.inputs not in whole]
        groups.append(chosen if len(chosen) > 1 else group)
    return [_compare(group[0], group[-1], notes) for group in groups if len(group) > 1]


def is_swept(metrics: Mapping[str, Any]) -> bool:
    """Whether these are the metrics of one point of a curve: of a checkpoint on the way, or under a budget."""
    return any(metrics.get(key) is not None for key in SWEPT)


def _load_evaluation(step: Step, notes: list[str]) -> Evaluation:
    metrics = step.metrics
    table = _read_table(step, notes)
    right: dict[str, list[float]] = {}
    for problem_id, verdict in zip(table["problem_id"], table["verdict"], strict=True):
        right.setdefault(problem_id, []).append(float(verdict in RIGHT))
    accuracy = _interval(statistics.clustered_mean(list(right.values()))) if right else _stated_accuracy(metrics)
    stated = _stated_accuracy(metrics)
    if accuracy and stated and abs(accuracy.mean - stated.mean) > AGREEMENT:
        notes.append(
            f"{step.name}: metrics.json states an accuracy of {stated.mean:.2%}, its completions give "
            f"{accuracy.mean:.2%}; the page shows the latter."
        )
    if num_unparsable := as_number(metrics.get("num_unparsable_golds")):
        notes.append(
            f"{step.name}: the reference answers of {num_unparsable:.0f} questions can be read by no rule, so nobody "
            "can be right there: completions.parquet has them under the verdict unparsable_gold."
        )
    num_rows = len(table["verdict"])
    verdicts = dict(Counter(table["verdict"]))
    return Evaluation(
        step=step,
        benchmark=str(metrics.get("benchmark") or "benchmark not named"),
        accuracy=accuracy,
        right=right,
        num_tokens=[count for count in table["num_tokens"] if count is not None],
        verdicts=verdicts,
        mean_tokens=as_number(metrics.get("mean_tokens")),
        truncation_rate=as_number(metrics.get("truncation_rate")),
        no_answer_rate=as_number(metrics.get("no_answer_rate")),
        num_questions=len(right) or metrics.get("num_questions"),
        num_samples=num_rows / len(right) if right else as_number(metrics.get("num_samples")),
    )


def _read_table(step: Step, notes: list[str]) -> dict[str, list[Any]]:
    """The small columns of completions.parquet in problem and sample order; the texts are read later, for a few."""
    import pyarrow.parquet as parquet

    empty: dict[str, list[Any]] = {column: [] for column in TABLE_COLUMNS}
    path = step.file("completions.parquet")
    if path is None:
        notes.append(f"{step.name}: no completions.parquet, so its numbers are those of metrics.json.")
        return empty
    missing = set(TABLE_COLUMNS) - set(parquet.read_schema(path).names)
    if missing:
        notes.append(f"{step.name}: completions.parquet lacks the column(s) {', '.join(sorted(missing))}.")
        return empty
    table = parquet.read_table(path, columns=TABLE_COLUMNS)
    return table.sort_by([("problem_id", "ascending"), ("sample", "ascending")]).to_pydict()


def _compare(before: Evaluation, after: Evaluation, notes: list[str]) -> Comparison:
    assert before.accuracy and after.accuracy
    shared = sorted(before.right.keys() & after.right.keys())
    accuracy_before, accuracy_after, difference = before.accuracy, after.accuracy, None
    if shared:
        before_QS, after_QS = [before.right[one] for one in shared], [after.right[one] for one in shared]
        accuracy_before = _interval(statistics.clustered_mean(before_QS))
        accuracy_after = _interval(statistics.clustered_mean(after_QS))
        difference = _interval(statistics.paired_difference(after_QS, before_QS))
    left_out = len(before.right.keys() ^ after.right.keys())
    if left_out:
        notes.append(
            f"{before.step.name} and {after.step.name} share {len(shared)} questions; the {left_out} that only one of "
            f"them asked are left out of the comparison."
        )
    changed = _changed_settings(before.step.identity_config, after.step.identity_config)
    return Comparison(before, after, shared, accuracy_before, accuracy_after, difference, changed)


def _changed_settings(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Settings in which the two evaluations differ, as "key: old → new": a comparison must be of like with like."""
    keys = sorted(before.keys() | after.keys())
    return [f"{key}: {before.get(key)} → {after.get(key)}" for key in keys if before.get(key) != after.get(key)]


def _stated_accuracy(metrics: dict[str, Any]) -> Interval | None:
    mean = as_number(metrics.get("accuracy"))
    if mean is None:
        return None
    return Interval(mean, as_number(metrics.get("accuracy_low")), as_number(metrics.get("accuracy_high")))


def _interval(estimate: "statistics.Estimate") -> Interval:
    return Interval(estimate.mean, as_number(estimate.low), as_number(estimate.high))


def completions_path(evaluation: Evaluation) -> Path:
    """The file that holds the texts. Only called for an evaluation whose table was read."""
    path = evaluation.step.file("completions.parquet")
    assert path is not None
    return path
