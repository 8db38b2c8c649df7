"""Is a score still at its target? One night's verdict, and evidence over many nights that does not cry wolf.

Two questions are asked every night, of the score (ours) and the target (published: a value with its own error):

- Is it as good? Non-inferiority: pass when the one-sided 95 % lower bound of score - target lies above -drop, where the
  error of the difference holds both sides' sampling errors and what separates one training run from the next. A score
  whose true value is `drop` below the target passes in one night of twenty at most.
- Has it become worse? A test each night would raise a false alarm sooner or later, so evidence is gathered by an
  e-detector (Shin, Ramdas and Rinaldo, arXiv:2203.03532, the Shiryaev-Roberts form): R_t = (1 + R_{t-1}) * L_t, where
  L_t is an e-value, whose mean is at most 1 while the true score is not below the null. The alarm is R_t >= A; then
  there are at least A nights on average to the first false alarm, and within n nights it comes with probability n/A at
  most. L_t = exp(b*z - b²/2) with z = (null - score)/error; R is the mean of one R for each bet b in BETS, because the
  size of a drop is not known before.

The target's error is the same every night, so nights cannot average it out: the null is not the target but the lower
end of its one-sided 97.5 % interval. With that the false alarm within n nights has probability n/A + 0.025 at most.
Errors are taken to be Gaussian, as means over some hundred completions nearly are.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

Z_PASS = {1: 1.645, 2: 1.96}
"""By the number of times that a night may look at its score, the second time with more samples: one-sided 95 % in all.
For the evidence the smaller e-value of the two looks counts: that is an e-value whatever the first look led to."""
Z_NULL = 1.96  # one-sided 97.5 %
BETS = (0.5, 1.0, 2.0, 3.0)
MAX_LOG = 50.0
MAX_SAMPLES = 10_000  # of a question: more are not worth naming
NUM_KNOWN = 4  # scores of earlier nights from which the spread of runs can be told
NUM_REMEMBERED = 30  # of the earlier nights, for that
UNKNOWN_RUN_SD = 0.07
"""Standard deviation from run to run that is assumed before there are NUM_KNOWN scores, on the scale of 0 to 1: that
of the quickstart's three seeds (RESULTS.md). Runs of one seed on one machine differ by nothing."""


@dataclass(frozen=True)
class Score:
    """A mean over Q questions of S samples each, and what its error is made of.

    `between`: the variance of the questions' true means; `within`: the mean variance of one sample of a question. With
    one sample a question they cannot be told apart; then `within` holds both.
    """

    mean: float
    between: float
    within: float
    num_questions: int
    num_samples: int

    def variance(self, *, fixed_questions: bool) -> float:
        """Of the mean. `fixed_questions`: about these very questions, else about all that they were drawn from."""
        questions = 0.0 if fixed_questions else self.between
        return (questions + self.within / self.num_samples) / self.num_questions


def score_of(right_QS: Sequence[Sequence[float]]) -> Score:
    """The score of 0s and 1s, S for each of Q questions. Raises ValueError for none, or where S differs."""
    sizes = {len(right_S) for right_S in right_QS}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"a score needs questions with equally many samples, not {sorted(sizes) or 'none at all'}.")
    num_questions, num_samples = len(right_QS), sizes.pop()
    means_Q = [math.fsum(right_S) / num_samples for right_S in right_QS]
    mean = math.fsum(means_Q) / num_questions
    if num_samples == 1 or num_questions == 1:
        return Score(mean, 0.0, _bernoulli(mean, num_questions * num_samples), num_questions, num_samples)
    within = math.fsum(m * (1 - m) for m in means_Q) / num_questions * num_samples / (num_samples - 1)
    spread = math.fsum((m - mean) ** 2 for m in means_Q) / (num_questions - 1)
    if spread == 0:  # all right or all wrong: 0 would claim certainty
        return Score(mean, 0.0, _bernoulli(mean, num_questions * num_samples), num_questions, num_samples)
    return Score(mean, max(0.0, spread - within / num_samples), within, num_questions, num_samples)


def _bernoulli(mean: float, num: int) -> float:
    """The variance of one of `num` draws, with half a right and half a wrong one added (Jeffreys), so never 0."""
    share = (mean * num + 0.5) / (num + 1)
    return share * (1 - share)


@dataclass(frozen=True)
class Target:
    """A published value and its standard error."""

    value: float
    standard_error: float

    @property
    def null(self) -> float:
        """The least true score that the published value does not rule out."""
        return max(0.0, self.value - Z_NULL * self.standard_error)


def run_variance(scores: Sequence[float], sampling_variance: float) -> float:
    """What separates the true scores of two runs of the same recipe (seeds), from the scores of earlier nights.

    Half the mean square of successive differences (von Neumann), which a lasting drop hardly changes, less the
    sampling error. UNKNOWN_RUN_SD squared where there are fewer than NUM_KNOWN.
    """
    known = list(scores)[-NUM_REMEMBERED:]
    if len(known) < NUM_KNOWN:
        return UNKNOWN_RUN_SD**2
    squares = [(after - before) ** 2 for before, after in itertools.pairwise(known)]
    return max(0.0, math.fsum(squares) / len(squares) / 2 - sampling_variance)


def e_values(score: float, null: float, error: float) -> tuple[float, ...]:
    """One night's e-value for each bet; 1 says nothing, more speaks for a score below the null."""
    z = (null - score) / error
    return tuple(math.exp(min(MAX_LOG, bet * z - bet**2 / 2)) for bet in BETS)


class Detector:
    """The evidence over the nights that the score has become worse."""

    def __init__(self, nights_between_alarms: float) -> None:
        self.threshold = nights_between_alarms
        self._evidence = [0.0] * len(BETS)

    def see(self, night: Sequence[float]) -> float:
        """Take the e-values of one more night; returns the evidence R. It is kept below ten times the threshold, so
        that a few nights at which all is well again end an alarm."""
        cap = 10 * self.threshold * len(BETS)
        self._evidence = [min(cap, (1 + old) * value) for old, value in zip(self._evidence, night, strict=True)]
        return self.evidence

    @property
    def evidence(self) -> float:
        """R, the mean over the bets."""
        return math.fsum(self._evidence) / len(BETS)

    @property
    def is_alarmed(self) -> bool:
        """R >= A."""
        return self.evidence >= self.threshold


def passes(score: float, target: Target, variance: float, drop: float, looks: int = 1) -> bool:
    """Whether the score is not inferior: the lower bound of score - target is above -drop."""
    return score - target.value - Z_PASS[looks] * math.sqrt(variance + target.standard_error**2) > -drop


def samples_to_pass(
    score: Score, target: Target, run_var: float, drop: float, *, fixed_questions: bool, looks: int = 1
) -> int | None:
    """How many more samples of each question would let this very score pass; None where no number would."""
    room = score.mean - target.value + drop
    if room <= 0:
        return None
    allowed = (room / Z_PASS[looks]) ** 2 - target.standard_error**2 - run_var
    allowed -= 0.0 if fixed_questions else score.between / score.num_questions
    if allowed <= 0:
        return None
    needed = score.within / score.num_questions / allowed
    return max(0, math.floor(needed) + 1 - score.num_samples) if needed < MAX_SAMPLES else None
