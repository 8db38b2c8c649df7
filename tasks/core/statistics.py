"""Intervals for evaluations: samples of one question are not independent, so the question is the unit.

The 95 % interval is mean ± q·SE with SE = sd(question means, n - 1)/sqrt(Q): the clustered standard error of Miller,
"Adding Error Bars to Evals" (arXiv 2411.00640), for questions of equal weight. q is 1.96, or Student's t for fewer than
31 questions. Where SE is 0 (every question has the same mean: 0 %, 100 %, nothing changed) or Q is 1, ± 0 would claim
certainty; the Wilson interval of Q independent trials stands in. Intervals are clipped to the possible range.

A share that is often near 0 or 1 (truncated completions) has its own, `clustered_share`; what is no mean of values in
0…1 (a median, a ratio of sums) is resampled, `bootstrap_intervals`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NUM_RESAMPLES = 1000
Z_95 = 1.96
# Student's t, 97.5 %, for 1 to 29 degrees of freedom.
# fmt: off
_T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045,
)
# fmt: on


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval [low, high] and clustered standard error.

    `num_questions` is Q; `num_samples` is the samples of one question, the fewest where they differ.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    num_questions: int
    num_samples: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0


def clustered_mean(values_QS: Sequence[Sequence[float]]) -> Estimate:
    """pass@1: the mean over Q questions of the mean over each one's samples, which lie in 0…1; S may differ.

    Raises ValueError when there is no question, a question without a sample or a value outside 0…1.
    """
    means_Q = [_mean(values_S) for values_S in values_QS]
    return _estimate(means_Q, lowest=0.0, num_samples=min(map(len, values_QS), default=0))


def clustered_share(hits_QS: Sequence[Sequence[float]]) -> Estimate:
    """As `clustered_mean`, for shares near 0 or 1, where mean ± q·SE is lopsided: Wilson of the effective trials.

    These are mean·(1 - mean)/SE², as many independent completions as would have this SE, at most all there are; for few
    questions times (1.96/q)² (Korn & Graubard, Survey Methodology 24:193, 1998; for Wilson: Dean & Pagano, J. Survey
    Statistics and Methodology 3:484, 2015).
    """
    estimate = clustered_mean(hits_QS)
    if estimate.standard_error == 0:
        return estimate
    trials = estimate.mean * (1 - estimate.mean) / estimate.standard_error**2
    trials *= (Z_95 / quantile_95(estimate.num_questions)) ** 2
    trials = min(max(1.0, trials), float(sum(map(len, hits_QS))))
    low, high = wilson(estimate.mean * trials, trials)
    return replace(estimate, low=low, high=high)


def bootstrap_intervals(
    measure: "Callable[[NDArray[np.int64]], NDArray[np.float64]]", num_questions: int
) -> list[tuple[float, float]] | None:
    """95 % intervals, one for each number that `measure` gives for the indices of the questions drawn, with repeats.

    The percentile bootstrap (Efron, Annals of Statistics 7:1, 1979) over whole questions, with NUM_RESAMPLES and a
    fixed seed. None for one question, which says nothing about others.
    """
    import numpy as np

    if num_questions < 2:
        return None
    generator = np.random.default_rng(0)
    draws = [measure(generator.integers(num_questions, size=num_questions)) for _ in range(NUM_RESAMPLES)]
    lows, highs = np.percentile(np.stack(draws), (2.5, 97.5), axis=0)
    return [(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]


def paired_difference(after_QS: Sequence[Sequence[float]], before_QS: Sequence[Sequence[float]]) -> Estimate:
    """The mean over Q questions of (mean after - mean before): both rows of a question are about the same question.

    Pairing removes what makes questions differ in difficulty. Raises ValueError as `clustered_mean`, and when the
    numbers of questions differ.
    """
    if len(after_QS) != len(before_QS):
        raise ValueError(f"{len(after_QS)} questions after, {len(before_QS)} before: a pair needs the same questions.")
    pairs = zip(after_QS, before_QS, strict=True)
    differences_Q = [_mean(after_S) - _mean(before_S) for after_S, before_S in pairs]
    num_samples = min(map(len, [*after_QS, *before_QS]), default=0)
    return _estimate(differences_Q, lowest=-1.0, num_samples=num_samples)


def quantile_95(num_questions: int) -> float:
    """How many standard errors a 95 % interval over Q questions goes to either side: Student's t below 31, else 1.96.

    Raises ValueError below 2, where there is no standard error.
    """
    if num_questions < 2:
        raise ValueError(f"{num_questions} question has no standard error: there must be two.")
    return _T_95[num_questions - 2] if num_questions <= len(_T_95) + 1 else Z_95


def wilson(successes: float, n: float) -> tuple[float, float]:
    """The 95 % Wilson score interval for `successes` of `n` independent trials; 0…1. Raises ValueError for n < 1."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials: there must be a trial, and 0 to n successes.")
    share, z2 = successes / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased pass@k of Chen et al. (arXiv 2107.03374): 1 - C(n-c, k)/C(n, k), for c right of n samples."""
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {c} right in {n} samples: needs 0 <= c <= n and 1 <= k <= n.")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def _mean(values_S: Sequence[float]) -> float:
    if not values_S or not all(0 <= value <= 1 for value in values_S):
        raise ValueError(f"a question needs samples with values in 0…1, not {list(values_S)[:5]}.")
    return math.fsum(values_S) / len(values_S)


def _estimate(means_Q: Sequence[float], *, lowest: float, num_samples: int) -> Estimate:
    """`lowest`…1 is the range that a question's mean may take."""
    num_questions = len(means_Q)
    if not num_questions:
        raise ValueError("there is no question to estimate from.")
    mean = math.fsum(means_Q) / num_questions
    squares = math.fsum((value - mean) ** 2 for value in means_Q)
    standard_error = math.sqrt(squares / (num_questions - 1) / num_questions) if num_questions > 1 else 0.0
    if standard_error < 1e-12:
        span = 1.0 - lowest
        low, high = wilson(min(1.0, max(0.0, (mean - lowest) / span)) * num_questions, num_questions)
        return Estimate(mean, lowest + span * low, lowest + span * high, 0.0, num_questions, num_samples)
    half = quantile_95(num_questions) * standard_error
    return Estimate(mean, max(lowest, mean - half), min(1.0, mean + half), standard_error, num_questions, num_samples)
