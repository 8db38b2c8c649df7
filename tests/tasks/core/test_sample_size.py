"""How many more samples or questions decide a comparison, worked by hand."""

import pytest

from tasks.core.sample_size import Needed, needed
from tasks.core.statistics import paired_difference, quantile_95


def needed_for(after_QS: list[list[int]], before_QS: list[list[int]]) -> Needed:
    return needed(after_QS, before_QS, paired_difference(after_QS, before_QS))


def test_needed_samples_and_questions_worked_by_hand() -> None:
    # Differences ½, ½, 0, ½: mean 0.375, standard error 0.125, so w + v = 4 * 0.125² = 0.0625.
    # One sample has the variance ½ in three of the eight cells: v = 3 * (½ / 2) / 4 = 0.1875, more than all, so w = 0.
    # q + z = 3.182 + 0.8416 = 4.0236; v may be (0.375 / 4.0236)² * 4 = 0.034744, and with m more samples it is
    # 0.375 / (2 + m): m >= 8.79. Questions: (q + z)² * 0.0625 / Q <= 0.375² from Q = 6 on, where it is
    # 3.4126² * 0.0625 / 6 = 0.1213 (at 5: 3.6176² * 0.0625 / 5 = 0.1636).
    before, after = [[1, 0], [0, 0], [1, 1], [0, 0]], [[1, 1], [1, 0], [1, 1], [0, 1]]
    found = needed_for(after, before)
    assert (found.more_samples, found.more_questions, found.sampling_share) == (9, 2, 1.0)
    assert found.detectable == pytest.approx(4.0236 * 0.125)


def test_needed_where_questions_differ_only_more_questions_help() -> None:
    # All samples of a question agree: v = 0. 40 questions, 12 won, 8 lost: mean 0.1, squares 20 - 40 * 0.01 = 19.6,
    # w = 19.6 / 39 = 0.502564; Q >= 2.8016² * 0.502564 / 0.01 = 394.46, so 355 more.
    before = [[0, 0]] * 12 + [[1, 1]] * 8 + [[1, 1]] * 20
    after = [[1, 1]] * 12 + [[0, 0]] * 8 + [[1, 1]] * 20
    found = needed_for(after, before)
    assert (found.more_samples, found.more_questions, found.sampling_share) == (None, 355, 0.0)
    # The same with one sample a question: what is sampling cannot be told.
    once = needed_for([one[:1] for one in after], [one[:1] for one in before])
    assert (once.more_samples, once.more_questions, once.sampling_share) == (None, 355, None)


def test_needed_samples_of_unequal_numbers_worked_by_hand() -> None:
    # 32 questions; before: always [0, 1], ½; after: half of them [0, 0, 1, 1] and half [0, 1, 1, 1], ½ and ¾.
    # Differences 0 and ¼: mean 0.125, squares 32 * 0.125² = 0.5, w + v = 0.5 / 31 = 0.016129.
    # Variance of one sample: before ½, after 1/3 and 1/4, so v = ½ / 2 + (1/3 + 1/4) / 2 / 4 = 0.322917, and w = 0.
    # It may be (0.125 / 2.8016)² * 32 = 0.063703. With m more it is 0.5 / (2 + m) + 0.291667 / (4 + m):
    # 0.045455 + 0.022436 = 0.067890 at m = 9, and 0.041667 + 0.020833 = 0.0625 at m = 10.
    before = [[0, 1]] * 32
    after = [[0, 0, 1, 1]] * 16 + [[0, 1, 1, 1]] * 16
    assert needed_for(after, before).more_samples == 10


def test_needed_samples_have_no_bound_while_sampling_is_all_the_error() -> None:
    # 2,000 questions, half right by both, but one that is all wrong before: mean 0.5 / 2000 = 0.00025; of the 4,000
    # cells 3,999 have the variance ½: v = 3999 * ½ / 2 / 2000 = 0.499875, nearly 4,000 times w + v, so w = 0.
    # v may be (0.00025 / 2.8016)² * 2000 = 1.592565e-5; with m more it is 0.99975 / (2 + m): m >= 62,774.003.
    before, after = [[0, 1]] * 1999 + [[0, 0]], [[0, 1]] * 2000
    assert needed_for(after, before).more_samples == 62_775


def test_needed_difference_of_zero_cannot_be_decided() -> None:
    found = needed_for([[1], [0], [1]], [[0], [1], [1]])
    assert (found.more_samples, found.more_questions) == (None, None)
    # Differences 1, -1, 0: standard error sqrt(1 / 3) = 0.57735; q + z = 4.303 + 0.8416.
    assert found.detectable == pytest.approx(5.1446 * 0.57735, abs=1e-4)


@pytest.mark.parametrize(("after", "before"), [([[1]], [[0]]), ([[1, 1]] * 3, [[0, 0]] * 3), ([[1]] * 9, [[1]] * 9)])
def test_needed_without_a_spread_says_nothing(after: list[list[int]], before: list[list[int]]) -> None:
    assert needed_for(after, before) == Needed(None, None, None, None)


def test_needed_of_a_decided_comparison_is_not_negative() -> None:
    found = needed_for([[1, 1, 1, 0]] * 60 + [[1, 1, 1, 1]] * 40, [[0, 0, 0, 1]] * 100)
    assert (found.more_samples, found.more_questions) == (0, 0)


def test_quantile_is_students_below_31_questions() -> None:
    assert [quantile_95(num) for num in (2, 4, 30, 31, 500)] == [12.706, 3.182, 2.045, 1.96, 1.96]
    with pytest.raises(ValueError, match="there must be two"):
        quantile_95(1)
