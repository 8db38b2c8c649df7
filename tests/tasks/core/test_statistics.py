"""Intervals against numbers worked by hand."""

import math

import numpy as np
import pytest

from tasks.core.statistics import (
    bootstrap_intervals,
    clustered_mean,
    clustered_share,
    paired_difference,
    pass_at_k,
    wilson,
)


def test_clustered_mean_few_questions_use_students_t() -> None:
    # Question means 1, 0.5, 0, 0.5: mean 0.5, squares 0.25+0+0.25+0 = 0.5, SE = sqrt(0.5/3/4) = 0.204124; t(3) = 3.182
    estimate = clustered_mean([[1, 1], [1, 0], [0, 0], [0, 1]])
    assert estimate.mean == 0.5
    assert estimate.standard_error == pytest.approx(0.2041241)
    assert (estimate.num_questions, estimate.num_samples) == (4, 2)
    assert (estimate.low, estimate.high) == (0.0, 1.0)  # 0.5 ± 0.6495, clipped


def test_clustered_mean_many_questions_use_1_96() -> None:
    # 100 questions, 60 always right and 40 never: SE = sqrt(100*0.24/99/100) = 0.0492366; half = 0.0965037
    estimate = clustered_mean([[1] * 4] * 60 + [[0] * 4] * 40)
    assert estimate.standard_error == pytest.approx(0.0492366, abs=1e-7)
    assert estimate.low == pytest.approx(0.5034963, abs=1e-7)
    assert estimate.high == pytest.approx(0.6965037, abs=1e-7)


def test_clustered_mean_repeating_a_sample_does_not_narrow_the_interval() -> None:
    once = clustered_mean([[1], [0], [1], [1], [0]])
    often = clustered_mean([[1] * 64, [0] * 64, [1] * 64, [1] * 64, [0] * 64])
    assert (once.low, once.high, once.standard_error) == (often.low, often.high, often.standard_error)


def test_clustered_mean_unequal_samples_weigh_questions_equally() -> None:
    estimate = clustered_mean([[1], [0, 0, 0]])
    assert (estimate.mean, estimate.num_samples) == (0.5, 1)


def test_clustered_mean_all_right_gets_a_wilson_interval_of_the_questions() -> None:
    # Wilson, 10 of 10: high 1, low = 10/(10+1.96^2) = 0.722460
    estimate = clustered_mean([[1, 1, 1]] * 10)
    assert (estimate.mean, estimate.standard_error, estimate.high) == (1.0, 0.0, 1.0)
    assert estimate.low == pytest.approx(0.722460, abs=1e-6)


def test_clustered_mean_one_question_claims_little() -> None:
    # Wilson, 1 of 1: low = 1/(1+1.96^2) = 0.206543
    assert clustered_mean([[1, 1, 1, 1]]).low == pytest.approx(0.206543, abs=1e-6)


@pytest.mark.parametrize("values", [[], [[]], [[1], []], [[2.0]], [[-0.1]], [[math.nan]]])
def test_clustered_mean_bad_values_are_refused(values: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="question"):
        clustered_mean(values)


def test_clustered_share_few_questions_by_hand() -> None:
    # Mean 0.5, SE 0.204124 as above: 0.25/SE² = 6 trials, times (1.96/3.182)² = 2.276498; Wilson's half is
    # 1.96*sqrt(0.25/2.276498 + 3.8416/4/2.276498²)/(1 + 3.8416/2.276498) = 0.396203
    estimate = clustered_share([[1, 1], [1, 0], [0, 0], [0, 1]])
    assert (estimate.mean, estimate.standard_error) == (0.5, pytest.approx(0.2041241))
    assert estimate.low == pytest.approx(0.103797, abs=1e-5)
    assert estimate.high == pytest.approx(0.896203, abs=1e-5)


def test_clustered_share_repeating_a_sample_does_not_narrow_the_interval() -> None:
    once = clustered_share([[1], [0], [0], [0], [0], [0]])
    often = clustered_share([[1] * 64] + [[0] * 64] * 5)
    assert (once.low, once.high) == (often.low, often.high)


def test_clustered_share_none_at_all_is_the_wilson_interval_of_the_questions() -> None:
    assert clustered_share([[0, 0, 0]] * 10).high == pytest.approx(0.277540, abs=1e-5)


def test_clustered_share_rare_events_are_covered_where_the_plain_interval_is_not() -> None:
    """100 questions of 4 samples, in one of a hundred completions on average, which cluster: 400 repetitions."""
    generator, share = np.random.default_rng(0), 0.01
    covered = {clustered_mean: 0, clustered_share: 0}
    for _ in range(400):
        chances_Q = generator.beta(share, 1 - share, size=100)
        hits_QS = (generator.random((100, 4)) < chances_Q[:, None]).astype(float).tolist()
        for estimate in covered:
            interval = estimate(hits_QS)
            covered[estimate] += interval.low <= share <= interval.high
    assert covered[clustered_mean] < 0.92 * 400
    assert covered[clustered_share] >= 0.94 * 400


def test_bootstrap_mean_agrees_with_the_standard_error() -> None:
    """Of 400 normal values with mean 5 and deviation 2, 1.96·2/20 = 0.196 to either side; the draws add a little."""
    values = np.random.default_rng(3).normal(5, 2, size=400)
    values = 5 + 2 * (values - values.mean()) / values.std()
    ((low, high),) = bootstrap_intervals(lambda drawn: np.array([values[drawn].mean()]), 400) or [(0, 0)]
    assert low == pytest.approx(5 - 0.196, abs=0.02)
    assert high == pytest.approx(5 + 0.196, abs=0.02)


def test_bootstrap_is_the_same_every_time_and_none_for_one_question() -> None:
    values = np.array([1.0, 2.0, 4.0])
    first, second = (bootstrap_intervals(lambda drawn: np.array([np.median(values[drawn])]), 3) for _ in range(2))
    assert first == second == [(1.0, 4.0)]  # each is the median of 7 in 27 draws
    assert bootstrap_intervals(lambda drawn: values, 1) is None


def test_paired_difference_is_narrower_than_two_intervals() -> None:
    # Differences: 20 questions of +1, 80 of 0: mean 0.2, SE = sqrt(100*0.16/99/100) = 0.0402015; half = 0.0787950
    before = [[0]] * 60 + [[1]] * 40
    after = [[1]] * 20 + [[0]] * 40 + [[1]] * 40
    estimate = paired_difference(after, before)
    assert estimate.mean == pytest.approx(0.2)
    assert estimate.low == pytest.approx(0.1212050, abs=1e-6)
    assert estimate.high == pytest.approx(0.2787950, abs=1e-6)
    assert estimate.excludes_zero


def test_paired_difference_no_change_does_not_claim_certainty() -> None:
    # Wilson, 50 of 100 on the range -1…1: 2*(0.403832, 0.596168)-1 = ∓0.192336
    estimate = paired_difference([[1], [0]] * 50, [[1], [0]] * 50)
    assert estimate.mean == 0.0
    assert estimate.low == pytest.approx(-0.192336, abs=1e-5)
    assert estimate.high == pytest.approx(0.192336, abs=1e-5)
    assert not estimate.excludes_zero


def test_paired_difference_other_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="same questions"):
        paired_difference([[1]], [[1], [0]])


def test_wilson_known_values() -> None:
    # 8 of 10: centre (0.8+0.192080)/1.384160 = 0.716738, half 0.226574
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.490164, abs=1e-5), pytest.approx(0.943313, abs=1e-5))
    assert wilson(0, 10) == (0.0, pytest.approx(0.277540, abs=1e-5))
    with pytest.raises(ValueError, match="trial"):
        wilson(0, 0)


def test_pass_at_k_counts_the_draws_without_a_right_one() -> None:
    assert pass_at_k(4, 1, 1) == 0.25
    assert pass_at_k(4, 2, 2) == pytest.approx(5 / 6)  # C(2,2)/C(4,2) = 1/6 miss
    assert pass_at_k(4, 0, 4) == 0.0
    assert pass_at_k(4, 1, 4) == 1.0
    with pytest.raises(ValueError, match="1 <= k <= n"):
        pass_at_k(4, 1, 5)
