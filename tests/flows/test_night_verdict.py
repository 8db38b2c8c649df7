"""Verdicts on made-up scores: each of pass, regressed, inconclusive, and what a reader is told to do."""

import pytest

from flows.night_verdict import Gate, judge_night, of_target
from flows.targets import TargetRow
from tasks.core.sequential import Score
from tasks.core.statistics import clustered_mean
from tasks.core.store.nights import Night, Verdict

ROW = TargetRow(
    recipe="quickstart", stage="after", value=0.5, num_questions=10_000, fixed_questions=False, source="a test"
)
OWN = ROW.model_copy(update={"seed": 0})
ESTIMATE = clustered_mean([[1.0], [0.0]])


def score(mean, num_questions=1000, num_samples=4, between=0.05):
    return Score(mean, between, mean * (1 - mean) - between, num_questions, num_samples)


def night(judged, seed, row=ROW):
    return Night(
        recipe=row.recipe,
        stage=row.stage,
        metric=row.metric,
        target=row.model_dump(mode="json"),
        verdict=judged.verdict,
        reason=judged.reason,
        score=judged.score.model_copy(update={"mean": judged.score.mean}),
        null=judged.null,
        e_values=list(judged.e_values),
        evidence=judged.evidence,
        started_at="",
        ended_at="",
        seed=seed,
    )


def spend(means, row=ROW, seeds=None):
    """One night after the other; returns all verdicts."""
    nights, verdicts = [], []
    for index, mean in enumerate(means):
        seed = index if seeds is None else seeds[index]
        judged = judge_night(Gate(), row, score(mean), ESTIMATE, of_target(nights, row, seed), seed)
        nights.append(night(judged, seed, row))
        verdicts.append(judged)
    return verdicts


def test_nights_at_the_target_pass_once_the_spread_of_runs_is_known():
    judged = spend([0.5, 0.505, 0.495, 0.5, 0.5, 0.502])
    assert [one.verdict for one in judged[:1]] == [Verdict.INCONCLUSIVE]
    assert "a guess before there are 4 nights" in judged[0].reason
    assert [one.verdict for one in judged[4:]] == [Verdict.PASSED] * 2
    assert "a drop of 5 points is ruled out" in judged[-1].reason


def test_night_of_nothing_right_is_regressed_at_once():
    (judged,) = spend([0.0])
    assert judged.verdict is Verdict.REGRESSED and "0.0 % against 50.0 % ± 0.5: below 49.0 %" in judged.reason


def test_drop_of_five_points_is_regressed_after_some_nights_and_never_passes():
    judged = spend([0.5, 0.505, 0.495, 0.5, 0.502] + [0.445] * 6)
    verdicts = [one.verdict for one in judged[5:]]
    assert Verdict.PASSED not in verdicts and verdicts[-1] is Verdict.REGRESSED


def test_nights_of_one_seed_do_not_add_up_unless_the_target_is_of_that_seed():
    """The same bad luck again every night is no new evidence."""
    repeated = spend([0.46] * 12, seeds=[0] * 12)
    assert {one.evidence for one in repeated} == {repeated[0].evidence}
    own = spend([0.46] * 12, row=OWN, seeds=[0] * 12)
    assert own[-1].evidence > own[5].evidence > own[0].evidence


def test_target_without_n_is_inconclusive_and_says_what_to_give():
    row = ROW.model_copy(update={"num_questions": None})
    (judged,) = spend([0.5], row=row)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "give num_questions or standard_error for quickstart:after" in judged.reason


def test_more_samples_are_asked_for_where_they_would_decide_and_not_of_greedy_decoding():
    row = OWN.model_copy(update={"fixed_questions": True})
    known = [night(judged, 0, row) for judged in spend([0.5] * 5, row=row, seeds=[0] * 5)]
    small = Score(0.5, 0.0, 0.25, 200, 1)
    judged = judge_night(Gate(), row, small, ESTIMATE, known, 0)
    assert judged.verdict is Verdict.INCONCLUSIVE and judged.samples_to_pass is not None
    assert f"{judged.samples_to_pass} more samples of each question would decide" in judged.reason
    more = Score(0.5, 0.0, 0.25, 200, 1 + judged.samples_to_pass)
    assert judge_night(Gate(), row, more, ESTIMATE, known, 0).verdict is Verdict.PASSED
    assert judge_night(Gate(), row, small, ESTIMATE, known, 0, is_greedy=True).samples_to_pass is None


def test_second_look_keeps_the_smaller_evidence():
    gate = Gate(looks=2)
    first = judge_night(gate, ROW, score(0.45), ESTIMATE, [], 0)
    worse = judge_night(gate, ROW, score(0.40), ESTIMATE, [], 0, first_look=first)
    better = judge_night(gate, ROW, score(0.49), ESTIMATE, [], 0, first_look=first)
    assert worse.e_values == first.e_values
    assert all(value <= limit for value, limit in zip(better.e_values, first.e_values, strict=True))


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (Score(0.40, 0.0, 0.24, 1000, 1), "The score is that low"),
        (Score(0.48, 0.2, 0.01, 40, 64), "More questions would decide"),
    ],
)
def test_inconclusive_night_says_what_would_help(one, words):
    known = [night(judged, 0, OWN) for judged in spend([0.5] * 5, row=OWN, seeds=[0] * 5)]
    judged = judge_night(Gate(nights_between_alarms=1e9), OWN, one, ESTIMATE, known, 0)
    assert judged.verdict is Verdict.INCONCLUSIVE and words in judged.reason


def test_target_that_is_itself_too_uncertain_is_said_to_be():
    row = ROW.model_copy(update={"num_questions": 30})
    assert "The target itself is too uncertain" in spend([0.5], row=row)[0].reason


def test_target_whose_value_was_changed_starts_anew():
    nights = [night(judged, 3) for judged in spend([0.45])]
    assert of_target(nights, ROW, 3) == nights
    assert of_target(nights, ROW.model_copy(update={"value": 0.6}), 3) == []
