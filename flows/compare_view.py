"""What `r1 compare` prints: lines to read, JSON, or a table for a paper."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from flows.compare import Compared, Comparison, Evaluation
from flows.tables import latex, markdown
from tasks.core.report.text import label
from tasks.core.sample_size import POWER
from tasks.core.statistics import Estimate

COLUMNS = ("Benchmark", "A", "B", "Questions", "A, %", "B, %", "B - A, points")
NUM_NAMES = 3
MAX_CHANGES = 20


def as_lines(compared: Compared) -> str:
    """For a terminal: each benchmark with both scores, the difference, what would decide it, and what differs."""
    lines = [f"A  {label(compared.before, 160)}", f"B  {label(compared.after, 160)}"]
    for one in compared.comparisons:
        lines += ["", *_lines_of(one)]
    lines += [""] * bool(compared.notes) + [f"note: {note}" for note in compared.notes]
    return "\n".join(lines) + "\n"


def as_json(compared: Compared) -> dict[str, Any]:
    """Every number: accuracies and differences as shares (0 to 1), null for what cannot be told."""
    return {
        "a": compared.before,
        "b": compared.after,
        "comparisons": [_json_of(one) for one in compared.comparisons],
        "notes": compared.notes,
    }


def as_markdown(compared: Compared) -> str:
    """A table with a footnote."""
    table = markdown(COLUMNS, [_row(one) for one in compared.comparisons], num_names=NUM_NAMES)
    return f"{table}\n{_footnote(compared, lambda text: f'`{text}`')}\n"


def as_latex(compared: Compared) -> str:
    """A table environment whose caption is the footnote."""
    rows = [_row(one) for one in compared.comparisons]
    return latex(COLUMNS, rows, num_names=NUM_NAMES, caption=_footnote(compared, str))


def verdict(one: Comparison) -> str:
    """ "B is better", "A is better" or "not decided"."""
    if not one.difference.excludes_zero:
        return "not decided"
    return "B is better" if one.difference.mean > 0 else "A is better"


def how_to_decide(one: Comparison) -> str:
    """What would decide it, in sentences; says so where no number of samples would."""
    needed, difference = one.needed, one.difference
    if difference.standard_error == 0:
        return "Every question changed by the same, so their spread is not known: only more questions can tell."
    assert needed.detectable is not None
    detectable = f"These sizes find a true difference of {100 * needed.detectable:.1f} points with {POWER:.0%} power."
    if needed.more_questions is None:
        return f"The measured difference is 0, and no number of samples would show which is better. {detectable}"
    questions = f"{needed.more_questions:,} more questions with as many samples"
    if one.before.is_greedy and one.after.is_greedy:
        ways = f"{questions}; greedy decoding would only repeat its completions"
    elif needed.sampling_share is None:
        ways = f"{questions}; what more samples of these would do cannot be told, because one side has one a question"
    elif needed.more_samples is None:
        share = f"{1 - needed.sampling_share:.0%} of the variance lies between the questions"
        ways = f"{questions}; more samples of these questions cannot: {share}"
    else:
        ways = f"{needed.more_samples:,} more samples of each question by each, or {questions}"
    return f"It would take {ways} (if the true difference is the measured one; {POWER:.0%} power). {detectable}"


def _lines_of(one: Comparison) -> Iterator[str]:
    num = one.difference.num_questions
    left_out = f"; {one.num_left_out:,} that only one of them asked are left out" if one.num_left_out else ""
    yield f"{label(one.before.benchmark)}, {num:,} question{'s' * (num != 1)}{left_out}"
    width = max(len(label(side.name)) for side in (one.before, one.after))
    for letter, side, score in (("A", one.before, one.score_before), ("B", one.after, one.score_after)):
        interval = f"95 % interval {score.low:.1%} to {score.high:.1%}"
        size = f"{score.num_samples} sample{'s' * (score.num_samples != 1)} a question"
        yield f"  {letter}      {label(side.name):{width}}  {score.mean:6.1%}  {interval}, {size}"
    yield f"  B - A  {_points(one.difference)}, 95 % interval, paired by question: {verdict(one)}"
    if not one.difference.excludes_zero:
        yield f"  {how_to_decide(one)}"
    yield from _changes("The evaluations differ, so part of the difference may come from it", one.own_changes)
    yield from _changes("What they evaluate differs", one.causes)


def _changes(title: str, changes: list[str]) -> Iterator[str]:
    if changes:
        yield f"  {title}:"
        yield from (f"    {label(change, 200)}" for change in changes[:MAX_CHANGES])
    if len(changes) > MAX_CHANGES:
        yield f"    and {len(changes) - MAX_CHANGES} more: r1 explain lists them"


def _points(estimate: Estimate) -> str:
    mean, low, high = (_signed(100 * value) for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} points ({low} to {high})"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0")


def _row(one: Comparison) -> list[str]:
    scores = [
        f"{100 * score.mean:.1f} ({100 * score.low:.1f} to {100 * score.high:.1f})"
        for score in (one.score_before, one.score_after)
    ]
    names = [label(text) for text in (one.before.benchmark, one.before.name, one.after.name)]
    return [*names, f"{one.difference.num_questions:,}", *scores, _points(one.difference).replace(" points", "")]


def _footnote(compared: Compared, quote: Callable[[str], str]) -> str:
    before, after = (quote(label(ref, 160).replace("`", "'")) for ref in (compared.before, compared.after))
    return (
        f"A: {before}, B: {after}. Accuracy is the mean over questions of the share of right completions (pass@1); in "
        "brackets 95 % intervals, clustered by question, and for B - A paired by question."
    )


def _json_of(one: Comparison) -> dict[str, Any]:
    return {
        "benchmark": one.before.benchmark,
        "a": _side(one.before, one.score_before),
        "b": _side(one.after, one.score_after),
        "difference": asdict(one.difference),
        "verdict": verdict(one),
        "needed": asdict(one.needed) | {"power": POWER},
        "num_questions_left_out": one.num_left_out,
        "evaluations_differ_in": one.own_changes,
        "evaluated_differ_in": one.causes,
    }


def _side(evaluation: Evaluation, score: Estimate) -> dict[str, Any]:
    fingerprint = evaluation.record.fingerprint
    return {"name": evaluation.name, "ref": evaluation.ref, "fingerprint": fingerprint, "accuracy": asdict(score)}
