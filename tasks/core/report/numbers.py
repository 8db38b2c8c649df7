"""The table of a benchmark: one row a number, one column an evaluation; a number that none has makes no row."""

from collections.abc import Callable, Sequence
from typing import Any

from tasks.core.report.evaluations import Evaluation
from tasks.core.report.run import as_dict, as_number
from tasks.core.report.text import DASH, count, percent

Cell = Callable[[Evaluation], str | None]
LANGUAGES = {"en": "Latin letters", "zh": "Chinese", "mixed": "mixed"}


def rows_of(evaluations: Sequence[Evaluation]) -> list[tuple[str, list[str]]]:
    """(name, a cell for each evaluation); intervals are 95 %, over questions."""
    largest = max((k for one in evaluations for k in _ks(one)), default=1)
    named: list[tuple[str, Cell]] = [
        ("Accuracy (pass@1)", lambda one: percent(one.accuracy.mean) if one.accuracy else None),
        ("95% interval", lambda one: _bounds(one.accuracy.low, one.accuracy.high) if one.accuracy else None),
        ("Questions × samples", lambda one: f"{count(one.num_questions)} × {count(one.num_samples)}"),
        *([(f"pass@{largest}", lambda one: _share(_at(one, largest), "mean"))] if largest > 1 else []),
        ("Majority of the samples", lambda one: _share(_metrics(one), "maj_at_num_samples")),
        ("Mean length (tokens)", lambda one: _tokens(one, "mean_tokens")),
        ("Median length", lambda one: _tokens(one, "median_tokens")),
        ("95th percentile of length", lambda one: _tokens(one, "p95_tokens")),
        ("Mean thinking tokens", lambda one: _tokens(one, "mean_thinking_tokens")),
        ("Cut off at the limit", lambda one: _share(_metrics(one), "truncation_rate")),
        ("No answer", lambda one: _share(_metrics(one), "no_answer_rate")),
        ("With words of reflection", lambda one: _share(_metrics(one), "reflection_rate")),
        ("Such words per 1,000 tokens", lambda one: _tokens(one, "reflection_words_per_1k_tokens")),
        ("Languages", _languages),
    ]
    rows = [(name, [cell(one) for one in evaluations]) for name, cell in named]
    return [(name, [cell or DASH for cell in cells]) for name, cells in rows if any(cells)]


def _metrics(evaluation: Evaluation) -> dict[str, Any]:
    return evaluation.step.metrics


def _ks(evaluation: Evaluation) -> list[int]:
    return [int(k) for k in as_dict(_metrics(evaluation).get("pass_at_k")) if str(k).isdecimal()]


def _at(evaluation: Evaluation, k: int) -> dict[str, Any]:
    return as_dict(as_dict(_metrics(evaluation).get("pass_at_k")).get(str(k)))


def _share(metrics: dict[str, Any], key: str) -> str | None:
    """ "41.2% (39.0% to 43.4%)"; in pass_at_k the bounds are called low and high."""
    prefix = "" if key == "mean" else f"{key}_"
    value, low, high = (as_number(metrics.get(name)) for name in (key, f"{prefix}low", f"{prefix}high"))
    if value is None:
        return None
    return percent(value) if low is None or high is None else f"{percent(value)} ({_bounds(low, high)})"


def _bounds(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{percent(low)} to {percent(high)}"


def _tokens(evaluation: Evaluation, key: str) -> str | None:
    value = as_number(_metrics(evaluation).get(key))
    return None if value is None else count(round(value, 1))


def _languages(evaluation: Evaluation) -> str | None:
    mix = as_dict(_metrics(evaluation).get("language_mix"))
    shares = [(name, as_number(mix.get(key))) for key, name in LANGUAGES.items()]
    return ", ".join(f"{name} {percent(share, 0)}" for name, share in shares if share) or None
