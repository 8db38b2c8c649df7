"""Numbers worked by hand, and 10,000 simulated nights: false alarms within their bound, a real drop found."""

import math
import random
from collections.abc import Iterator
from itertools import accumulate

import pytest

from tasks.core.sequential import (
    BETS,
    NUM_KNOWN,
    UNKNOWN_RUN_SD,
    Detector,
    Score,
    Target,
    e_values,
    passes,
    run_variance,
    samples_to_pass,
    score_of,
)

NIGHTS_BETWEEN_ALARMS = 1000.0
NUM_QUESTIONS, NUM_SAMPLES, TRUE_SCORE, RUN_SD = 200, 4, 0.5, 0.01


def test_score_of_two_questions_splits_the_variance() -> None:
    """Means 1/2 and 1: mean 3/4. Within: (1/4 + 0)/2 · 2/1 = 1/4. Spread of the means 1/8; less 1/4 / 2 is 0."""
    score = score_of([[1, 0], [1, 1]])
    assert score == Score(mean=0.75, between=0.0, within=0.25, num_questions=2, num_samples=2)
    assert score.variance(fixed_questions=True) == score.variance(fixed_questions=False) == 0.25 / 2 / 2


def test_score_of_questions_that_differ_counts_them_unless_they_are_fixed() -> None:
    """Means 0, 0, 1, 1, no question wavers: spread 1/3, within 0."""
    score = score_of([[0, 0], [0, 0], [1, 1], [1, 1]])
    assert (score.between, score.within) == (pytest.approx(1 / 3), 0)
    assert score.variance(fixed_questions=False) == pytest.approx(1 / 12)
    assert score.variance(fixed_questions=True) == 0


@pytest.mark.parametrize("right_QS", [[[1, 1], [1, 1]], [[0, 0], [0, 0]], [[1], [1], [1], [1]], [[1, 1, 1, 1]]])
def test_score_of_all_alike_claims_no_certainty(right_QS: list[list[float]]) -> None:
    """Of 4 right ones: (4 + ½)/5 = 0.9; 0.9 · 0.1 = 0.09, over 4."""
    assert score_of(right_QS).variance(fixed_questions=True) == pytest.approx(0.09 / 4)


@pytest.mark.parametrize("right_QS", [[], [[]], [[1], [1, 0]]])
def test_score_of_nothing_or_unequal_samples_is_refused(right_QS: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="equally many samples"):
        score_of(right_QS)


def test_detector_follows_its_recursion() -> None:
    """At z = 1 each bet b gives exp(b - b²/2): R1 = L, R2 = (1 + L)·L, averaged over the bets."""
    detector = Detector(NIGHTS_BETWEEN_ALARMS)
    values = [math.exp(bet - bet**2 / 2) for bet in BETS]
    night = e_values(score=0.4, null=0.5, error=0.1)
    assert night == pytest.approx(values)
    assert detector.see(night) == pytest.approx(sum(values) / 4)
    assert detector.see(night) == pytest.approx(sum((1 + one) * one for one in values) / 4)


def test_detector_of_one_terrible_night_is_alarmed_and_of_good_nights_after_it_no_more() -> None:
    detector = Detector(NIGHTS_BETWEEN_ALARMS)
    detector.see(e_values(score=0.0, null=0.5, error=0.02))
    assert detector.is_alarmed
    nights = [detector.see(e_values(score=0.5, null=0.47, error=0.02)) for _ in range(5)]
    assert not detector.is_alarmed and nights == sorted(nights, reverse=True)


def test_null_is_the_targets_lower_bound() -> None:
    assert Target(0.5, 0.02).null == pytest.approx(0.5 - 1.96 * 0.02)
    assert Target(0.01, 0.02).null == 0


def test_passes_at_the_edge_of_the_allowed_drop() -> None:
    """Error 0.03 and 0.04 make 0.05; 1.645 · 0.05 = 0.08225: with a drop of 0.1, from -0.01775 on."""
    target, variance = Target(0.5, 0.04), 0.03**2
    assert passes(0.5 - 0.0177, target, variance, drop=0.1)
    assert not passes(0.5 - 0.0178, target, variance, drop=0.1)


def test_samples_to_pass_is_the_least_number_that_passes() -> None:
    score = Score(mean=0.5, between=0.0, within=0.25, num_questions=100, num_samples=1)
    target = Target(0.5, 0.01)
    more = samples_to_pass(score, target, run_var=0.0, drop=0.05, fixed_questions=True)
    assert more is not None

    def with_samples(num: int) -> bool:
        return passes(0.5, target, 0.25 / 100 / num, drop=0.05)

    assert with_samples(1 + more) and not with_samples(more)


@pytest.mark.parametrize(
    ("mean", "target", "run_var", "between"),
    [
        (0.45, Target(0.5, 0.0), 0.0, 0.0),  # as low as what may not pass
        (0.5, Target(0.5, 0.05), 0.0, 0.0),  # the target's own error is too large
        (0.5, Target(0.5, 0.0), 0.05**2, 0.0),  # runs differ too much
        (0.5, Target(0.5, 0.0), 0.0, 0.2),  # more questions are needed, not more samples
    ],
)
def test_samples_to_pass_where_no_number_helps_is_none(
    mean: float, target: Target, run_var: float, between: float
) -> None:
    score = Score(mean, between, within=0.05, num_questions=100, num_samples=4)
    assert samples_to_pass(score, target, run_var, drop=0.05, fixed_questions=False) is None


def test_run_variance_takes_half_the_squares_of_steps_less_the_sampling_error() -> None:
    """Steps of 0.02, four of them: 0.0004 / 2 = 0.0002; less 0.00005."""
    assert run_variance([0.5, 0.52, 0.5, 0.52, 0.5], 0.00005) == pytest.approx(0.00015)
    assert run_variance([0.5, 0.52, 0.5, 0.52], 0.001) == 0
    assert run_variance([0.5] * (NUM_KNOWN - 1), 0.001) == UNKNOWN_RUN_SD**2


def _nights(rng: random.Random, truths: list[float], target: Target) -> Iterator[tuple[bool, bool]]:
    """(alarmed, passed) of each night. Every night is a new run, on questions of its own that differ in difficulty."""
    detector, scores = Detector(NIGHTS_BETWEEN_ALARMS), list[float]()
    for truth in truths:
        ours = score_of(_right(rng, truth + rng.gauss(0, RUN_SD), NUM_QUESTIONS, NUM_SAMPLES))
        sampling = ours.variance(fixed_questions=False)
        variance = sampling + run_variance(scores, sampling)
        detector.see(e_values(ours.mean, target.null, math.sqrt(variance)))
        scores.append(ours.mean)
        yield detector.is_alarmed, passes(ours.mean, target, variance, drop=0.05)


def _right(rng: random.Random, truth: float, num_questions: int, num_samples: int) -> list[list[float]]:
    chances = (rng.betavariate(2 * truth, 2 * (1 - truth)) for _ in range(num_questions))
    return [[float(rng.random() < chance) for _ in range(num_samples)] for chance in chances]


def _published(rng: random.Random, num_questions: int) -> Target:
    value = sum(right for (right,) in _right(rng, TRUE_SCORE, num_questions, 1)) / num_questions
    return Target(value, math.sqrt(value * (1 - value) / num_questions))


@pytest.mark.slow
def test_ten_thousand_nights_without_a_drop_raise_no_more_false_alarms_than_stated() -> None:
    """100 systems of 100 nights, each with a target of its own: at most n/A + 0.025 of them may ever be alarmed."""
    rng = random.Random(0)
    ever = [any(alarm for alarm, _ in _nights(rng, [TRUE_SCORE] * 100, _published(rng, 1000))) for _ in range(100)]
    assert sum(ever) <= 100 * (100 / NIGHTS_BETWEEN_ALARMS + 0.025)


@pytest.mark.slow
def test_a_real_drop_of_five_points_is_found_and_rarely_passes() -> None:
    """The target is well known (10,000 questions); after 10 good nights the score drops by 5 points for 30 nights."""
    rng = random.Random(1)
    truths = [TRUE_SCORE] * 10 + [TRUE_SCORE - 0.05] * 30
    found, num_passed = [], 0
    for _ in range(40):
        nights = list(_nights(rng, truths, _published(rng, 10_000)))[10:]
        found.append(any(alarm for alarm, _ in nights))
        num_passed += sum(passed for _, passed in nights)
    assert sum(found) >= 0.95 * len(found)
    assert num_passed <= 0.15 * 40 * 30  # in theory 5 % of the nights; the shared error of 40 targets makes it vary


def test_simulated_scores_are_those_that_are_asked_for() -> None:
    """So that the two simulations above are about what they say."""
    rng = random.Random(2)
    means = [score_of(_right(rng, 0.3, NUM_QUESTIONS, NUM_SAMPLES)).mean for _ in range(50)]
    assert list(accumulate(means))[-1] / 50 == pytest.approx(0.3, abs=0.02)
