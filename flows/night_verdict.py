"""From a night's score and the earlier nights to a verdict. The statistics are tasks/core/sequential.py's.

Evidence is added up over independent nights. Nights of one training seed share the luck of that seed, so of each seed
only the latest night counts; unless the target is of that very seed, where what is left is the sampling of answers,
which has a seed of its own every night.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from flows.targets import TargetRow
from tasks.core.sequential import NUM_KNOWN, Detector, Score, Target, e_values, passes, run_variance, samples_to_pass
from tasks.core.statistics import Estimate
from tasks.core.store.nights import Night, NightScore, Verdict


@dataclass(frozen=True)
class Gate:
    """What the verdicts are to be sure of.

    `drop`: the smallest loss of score, as a share, that must not pass; `nights_between_alarms`: how rare a false alarm
    has to be, on average.
    """

    drop: float = 0.05
    nights_between_alarms: float = 1000.0
    looks: int = 1
    """2 where an inconclusive night may draw more samples and look again."""


@dataclass(frozen=True)
class Judged:
    """A verdict with what it rests on. `samples_to_pass`: more samples of each question that would decide; or None."""

    verdict: Verdict
    reason: str
    score: NightScore
    null: float | None = None
    e_values: tuple[float, ...] = ()
    evidence: float = 0.0
    samples_to_pass: int | None = None


def judge_night(
    gate: Gate,
    row: TargetRow,
    score: Score,
    estimate: Estimate,
    earlier: Sequence[Night],
    seed: int,
    first_look: Judged | None = None,
    is_greedy: bool = False,
) -> Judged:
    """The verdict on `score`, whose 95 % interval is `estimate`; `earlier` are this target's nights before, in order.

    `seed` is the training's tonight; `first_look` is what the score said before more samples were added to it;
    `is_greedy`: there are no other samples.
    """
    independent = earlier if row.seed is not None else _latest_of_each_seed(earlier, but=seed)
    known = [night.score for night in independent if night.score is not None]
    sampling = score.variance(fixed_questions=row.fixed_questions)
    runs = run_variance([one.mean for one in known], sampling)
    shown = NightScore(
        mean=score.mean,
        low=estimate.low,
        high=estimate.high,
        num_questions=score.num_questions,
        num_samples=score.num_samples,
        variance=sampling + runs,
    )
    target = row.target
    if target is None:
        return Judged(Verdict.INCONCLUSIVE, f"{_percent(score.mean)}; {_unknown_error(row)}", shown)
    night = e_values(score.mean, target.null, math.sqrt(shown.variance))
    if first_look is not None:
        night = tuple(map(min, night, first_look.e_values))
    detector = Detector(gate.nights_between_alarms)
    for one in [*(before.e_values for before in independent if before.e_values), night]:
        detector.see(one)
    judged = partial(Judged, score=shown, null=target.null, e_values=night, evidence=detector.evidence)
    said = f"{_percent(score.mean)} against {_percent(target.value)} ± {100 * target.standard_error:.1f}"
    if detector.is_alarmed:
        return judged(Verdict.REGRESSED, f"{said}: {_alarm(gate, target, detector)}")
    if passes(score.mean, target, shown.variance, gate.drop, gate.looks):
        return judged(Verdict.PASSED, f"{said}: a drop of {100 * gate.drop:g} points is ruled out")
    more = samples_to_pass(score, target, runs, gate.drop, fixed_questions=row.fixed_questions, looks=gate.looks)
    more = None if is_greedy else more
    help_ = _what_would_help(gate, target, score, runs, more, num_known=len(known))
    reason = f"{said}: a drop of {100 * gate.drop:g} points is not ruled out. {help_}"
    return judged(Verdict.INCONCLUSIVE, reason, samples_to_pass=more)


def _unknown_error(row: TargetRow) -> str:
    return (
        f"how sure the target's {_percent(row.value)} is is not known: give num_questions or standard_error for "
        f"{row.name} in the file of targets"
    )


def _alarm(gate: Gate, target: Target, detector: Detector) -> str:
    return (
        f"below {_percent(target.null)}, the least that the target allows, with evidence of {detector.evidence:,.0f} "
        f"over the nights (alarm at {gate.nights_between_alarms:,.0f})"
    )


def _latest_of_each_seed(nights: Sequence[Night], but: int) -> list[Night]:
    """In their order, without the seed `but`."""
    latest = {night.seed: night for night in nights if night.score is not None and night.seed != but}
    return [night for night in nights if latest.get(night.seed) is night]


def of_target(nights: Sequence[Night], row: TargetRow, seed: int | None) -> list[Night]:
    """The nights that judged the same target; where the row is of one seed, of that seed."""
    same = [
        night for night in nights if (night.recipe, night.stage, night.metric) == (row.recipe, row.stage, row.metric)
    ]
    same = [night for night in same if night.target.get("value") == row.value]
    return [night for night in same if row.seed is None or night.seed == seed]


def _what_would_help(gate: Gate, target: Target, score: Score, runs: float, more: int | None, *, num_known: int) -> str:
    """What a reader can do about an inconclusive night."""
    if score.mean <= target.value - gate.drop:
        return "The score is that low: the next nights will tell chance from a regression"
    if more is not None:
        return f"{more} more samples of each question would decide, if the score stays"
    if passes(score.mean, target, runs, gate.drop, gate.looks):
        return "More questions would decide, more samples of the same ones would not"
    if not passes(score.mean, target, 0.0, gate.drop, gate.looks):
        return "The target itself is too uncertain for that: find one that was measured on more questions"
    known = "" if num_known >= NUM_KNOWN else f", which is a guess before there are {NUM_KNOWN} nights"
    return f"One run differs too much from the next (± {100 * math.sqrt(runs):.1f} points{known}): no samples help"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
