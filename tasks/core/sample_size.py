"""How much more must be sampled until a paired comparison is decided.

Miller, "Adding Error Bars to Evals" (arXiv:2411.00640), section 5: the mean difference over Q questions has the
variance (w + v)/Q. w is the variance between questions of their true differences; v is what sampling adds, the mean
over questions of s²/S of the one model plus s²/S of the other, with s² the variance of one sample and S the samples.
More samples lower v alone, more questions lower both. A true difference d is found at 95 % with power P when d is at
least (q + z_P) standard errors, q as in statistics.py: then the interval excludes 0 in a share P of all repetitions.

Legend for shapes: Q questions, S samples a question (it may differ between questions and models).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core.statistics import Estimate, quantile_95

POWER, Z_POWER = 0.8, 0.8416


@dataclass(frozen=True)
class Needed:
    """What would decide a comparison if the true difference is the one that was measured.

    `more_samples` of every question by each model, on the same questions; `more_questions` with as many samples as now.
    None: no number would, or it cannot be told. `sampling_share` is v/(w + v), None with one sample a question, where
    the two cannot be told apart. `detectable` is the least true difference that the sizes of now find with that power.
    """

    more_samples: int | None
    more_questions: int | None
    sampling_share: float | None
    detectable: float | None


def needed(after_QS: Sequence[Sequence[float]], before_QS: Sequence[Sequence[float]], difference: Estimate) -> Needed:
    """`difference` is paired_difference(after_QS, before_QS); values lie in 0…1."""
    num_questions, error = difference.num_questions, difference.standard_error
    if error == 0:  # one question, or every question changed by the same: the spread is not known
        return Needed(None, None, None, None)
    total = error**2 * num_questions
    questions = _questions_for(abs(difference.mean), total)
    more_questions = None if questions is None else max(0, questions - num_questions)
    reach = quantile_95(num_questions) + Z_POWER
    spreads = _sample_variances(after_QS, before_QS)
    if spreads is None:
        return Needed(None, more_questions, None, reach * error)
    sampling = _sampling_variance(spreads, num_questions, 0)
    between = max(0.0, total - sampling)
    allowed = (difference.mean / reach) ** 2 * num_questions - between
    more_samples = _samples_for(allowed, spreads, num_questions)
    return Needed(more_samples, more_questions, min(1.0, sampling / total), reach * error)


def _sample_variances(*sides: Sequence[Sequence[float]]) -> list[tuple[float, int]] | None:
    """(unbiased variance of one sample, number of samples) of each question of each side; None where S is 1."""
    spreads = []
    for values_QS in sides:
        for values_S in values_QS:
            if len(values_S) < 2:
                return None
            mean = math.fsum(values_S) / len(values_S)
            squares = math.fsum((value - mean) ** 2 for value in values_S)
            spreads.append((squares / (len(values_S) - 1), len(values_S)))
    return spreads


def _sampling_variance(spreads: Sequence[tuple[float, int]], num_questions: int, more: int) -> float:
    """v with `more` samples of every question."""
    return math.fsum(variance / (num_samples + more) for variance, num_samples in spreads) / num_questions


def _samples_for(allowed: float, spreads: Sequence[tuple[float, int]], num_questions: int) -> int | None:
    """The least number of more samples that brings v down to `allowed`; None where w alone is too much."""
    if allowed <= 0:
        return None
    low, high = -1, 1  # high is enough, low is not or lies before 0
    while _sampling_variance(spreads, num_questions, high) > allowed:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if _sampling_variance(spreads, num_questions, middle) <= allowed:
            high = middle
        else:
            low = middle
    return high


def _questions_for(difference: float, total: float) -> int | None:
    """The least Q with (q(Q) + z_P)² * (w + v)/Q <= d²."""
    if difference < 1e-12:
        return None
    num = max(2, math.ceil((1.96 + Z_POWER) ** 2 * total / difference**2))
    while (quantile_95(num) + Z_POWER) ** 2 * total / num > difference**2:
        num += 1
    return num
