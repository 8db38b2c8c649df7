"""metrics.json of an evaluation, worked by hand. Verdicts and texts are given; the verifier that compares is real.

Legend: Q questions, S samples a question.
"""

import json

import pyarrow.parquet as pq
import pytest

from tasks.core.harness.metrics import summarise
from tasks.core.harness.records import Completion, Question, Thought
from tasks.core.harness.table import write_completions
from tasks.core.thinking import Thinking
from tasks.core.verdict import Judgement, Verdict
from tasks.core.verifier import Verifier

RIGHT, WRONG, CUT, EMPTY = Verdict.CORRECT, Verdict.WRONG, Verdict.TRUNCATED, Verdict.NO_ANSWER


@pytest.fixture(scope="module")
def verifier():
    with Verifier() as one:
        yield one


def completion(
    verdict: Verdict = RIGHT,
    answer: str | None = "1",
    *,
    task: str = "math",
    text: str = "",
    num_tokens: int = 10,
    thought: Thought | None = None,
) -> Completion:
    """One completion; what has no answer by its verdict has none."""
    question = Question("p", task, "8", "", ())
    judgement = Judgement(verdict, "fast", None if verdict in (CUT, EMPTY) else answer)
    return Completion(question, 0, text, num_tokens, verdict is CUT, judgement, thought)


def majority(verifier: Verifier, *completions: Completion) -> float:
    """maj@k of one question."""
    return summarise(list(completions), len(completions), verifier=verifier)["maj_at_num_samples"]


def of_verdicts(verifier: Verifier, verdicts: list[Verdict], num_samples: int) -> dict:
    return summarise([completion(verdict) for verdict in verdicts], num_samples, verifier=verifier)


def test_summarise_four_questions_of_four_samples_by_hand(verifier):
    """Question means 1/2, 1/2, 3/4, 1/4: squared deviations 1/8, SE sqrt(1/8 / 3 / 4) = 0.10206, t(3) 3.182."""
    verdicts = [RIGHT, RIGHT, WRONG, WRONG, RIGHT, CUT, RIGHT, CUT]
    verdicts += [RIGHT, RIGHT, RIGHT, EMPTY, EMPTY, EMPTY, EMPTY, RIGHT]
    completions = [completion(one, num_tokens=10 * (place + 1)) for place, one in enumerate(verdicts)]
    metrics = summarise(completions, 4, verifier=verifier)
    assert metrics["accuracy"] == 0.5 and metrics["num_unparsable_golds"] == 0
    assert metrics["standard_error"] == pytest.approx(0.1020621)
    assert metrics["accuracy_low"] == pytest.approx(0.5 - 0.3247615)
    assert metrics["accuracy_high"] == pytest.approx(0.5 + 0.3247615)
    assert (metrics["num_questions"], metrics["num_samples"]) == (4, 4)
    assert metrics["pass_at_num_samples"] == 1.0
    assert metrics["truncation_rate"] == 0.125
    assert metrics["no_answer_rate"] == 0.375  # a cut completion had no answer either
    assert metrics["mean_tokens"] == 85
    assert metrics["verdicts"] == {"correct": 8, "wrong": 2, "no_answer": 4, "truncated": 2}


def test_pass_at_k_powers_of_two_by_hand(verifier):
    """Of 4 samples 2, 2, 3, 1 are right. pass@2 misses C(4-c, 2)/6: 1/6, 1/6, 0, 1/2. Mean of the rest 0.791667, its
    squared deviations 0.131944, SE sqrt(0.131944/3/4) = 0.104859, times 3.182 = 0.333661. pass@4 is 1 for each: Wilson,
    4 of 4, low 4/(4 + 1.96²) = 0.510100."""
    verdicts = [RIGHT, RIGHT, WRONG, WRONG] * 2 + [RIGHT, RIGHT, RIGHT, WRONG] + [WRONG, WRONG, WRONG, RIGHT]
    at_k = of_verdicts(verifier, verdicts, 4)["pass_at_k"]
    assert list(at_k) == ["1", "2", "4"]
    assert at_k["1"]["mean"] == 0.5
    assert at_k["2"]["mean"] == pytest.approx(0.791667, abs=1e-6)
    assert at_k["2"]["low"] == pytest.approx(0.791667 - 0.333661, abs=1e-5)
    assert at_k["2"]["high"] == 1.0
    assert at_k["4"] == {"mean": 1.0, "low": pytest.approx(0.510100, abs=1e-6), "high": 1.0}


def test_pass_at_k_six_samples_stop_at_four(verifier):
    """1 of 6 right: pass@4 = 1 - C(5, 4)/C(6, 4) = 1 - 5/15."""
    metrics = of_verdicts(verifier, [RIGHT, *[WRONG] * 5], 6)
    assert list(metrics["pass_at_k"]) == ["1", "2", "4"]
    assert metrics["pass_at_k"]["4"]["mean"] == pytest.approx(2 / 3)
    assert metrics["pass_at_num_samples"] == 1.0


def test_majority_most_votes_win_and_missing_answers_do_not_vote(verifier):
    assert majority(verifier, completion(), completion(), completion(WRONG, "2")) == 1
    assert majority(verifier, completion(), completion(WRONG, "2"), completion(WRONG, "2")) == 0
    assert majority(verifier, completion(), completion(EMPTY), completion(EMPTY)) == 1
    assert majority(verifier, completion(EMPTY), completion(CUT)) == 0


def test_majority_tie_is_the_chance_of_a_fair_draw(verifier):
    assert majority(verifier, completion(), completion(WRONG, "2")) == 0.5
    assert majority(verifier, completion(), completion(WRONG, "2"), completion(WRONG, "3")) == pytest.approx(1 / 3)
    wrong_tie = [completion(WRONG, "2"), completion(WRONG, "2"), completion(WRONG, "3"), completion(WRONG, "3")]
    assert majority(verifier, completion(), *wrong_tie) == 0


def test_majority_right_answers_written_differently_are_one(verifier):
    """Both equal the gold, so they have two votes against one and one."""
    written = [completion(RIGHT, "0.5"), completion(RIGHT, r"\frac{1}{2}")]
    assert majority(verifier, *written, completion(WRONG, "2"), completion(WRONG, "3")) == 1


def test_majority_wrong_answers_written_differently_are_one(verifier):
    """0.5, 1/2 and 50 % against one right: three votes to one; by their texts it would be a tie of four."""
    written = [completion(WRONG, "0.5"), completion(WRONG, "1/2"), completion(WRONG, r"\frac{1}{2}")]
    assert majority(verifier, completion(RIGHT, "8"), *written) == 0


def test_majority_expressions_are_compared_by_math_verify(verifier):
    written = [completion(WRONG, r"\sqrt{8}"), completion(WRONG, r"2\sqrt{2}")]
    assert majority(verifier, completion(RIGHT, "8"), *written) == 0


def test_majority_countdown_counts_texts_without_blanks(verifier):
    """Its verifier compares no answers: 3+5 has two votes; 5+3 is another answer, though right too."""
    one = [completion(RIGHT, "3 + 5", task="countdown"), completion(RIGHT, "3+5", task="countdown")]
    other = [completion(RIGHT, "5 + 3", task="countdown")]
    wrong = [completion(WRONG, "3 - 5", task="countdown"), completion(WRONG, "3-5", task="countdown")]
    assert majority(verifier, *one, wrong[0]) == 1
    assert majority(verifier, one[0], *other, *wrong) == 0


def test_majority_interval_is_that_of_one_value_a_question(verifier):
    """Two questions, 1 and 0: mean 1/2, SE sqrt(0.5/1/2) = 0.5, t(1) 12.706: the whole range."""
    verdicts = [RIGHT, RIGHT, WRONG, WRONG]
    metrics = of_verdicts(verifier, verdicts, 2)
    assert [metrics[f"maj_at_num_samples{end}"] for end in ("", "_low", "_high")] == [0.5, 0.0, 1.0]


def test_lengths_median_and_95th_percentile_by_hand(verifier):
    """Twenty lengths 1 … 20: the median lies between 10 and 11, and 19 of 20 are at most 19."""
    completions = [completion(num_tokens=length) for length in range(1, 21)]
    metrics = summarise(completions, 2, verifier=verifier)
    assert (metrics["mean_tokens"], metrics["median_tokens"], metrics["p95_tokens"]) == (10.5, 10.5, 19)


def test_lengths_interval_draws_whole_questions(verifier):
    """Of two questions, eight completions of 10 tokens and eight of 20, a quarter of the draws take twice the one. Were
    completions drawn, all sixteen would be of 10 tokens once in 65,536 draws."""
    completions = [completion(num_tokens=length) for length in [10] * 8 + [20] * 8]
    metrics = summarise(completions, 8, verifier=verifier)
    for name in ("mean_tokens", "median_tokens"):
        assert [metrics[f"{name}{end}"] for end in ("", "_low", "_high")] == [15, 10, 20]


def test_lengths_one_question_has_no_interval(verifier):
    metrics = of_verdicts(verifier, [RIGHT, WRONG], 2)
    assert metrics["mean_tokens"] == 10
    assert metrics["mean_tokens_low"] is None and metrics["mean_tokens_high"] is None
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize(("verdict", "mean", "low", "high"), [(RIGHT, 1.0, 0.206543, 1.0), (WRONG, 0.0, 0.0, 0.793457)])
def test_summarise_one_question_all_right_or_all_wrong_claims_little(verifier, verdict, mean, low, high):
    """Wilson, 1 or 0 of 1: 1/(1 + 1.96²) = 0.206543."""
    metrics = of_verdicts(verifier, [verdict] * 4, 4)
    for name in ("accuracy", "maj_at_num_samples"):
        found = [metrics[f"{name}{end}"] for end in ("", "_low", "_high")]
        assert found == [mean, pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6)]
    assert metrics["pass_at_k"]["4"]["mean"] == mean


def test_summarise_no_completion_is_refused(verifier):
    with pytest.raises(ValueError, match="no question"):
        summarise([], 4, verifier=verifier)


def test_reflection_no_word_at_all_has_no_interval_that_claims_certainty(verifier):
    metrics = summarise([completion(text="we add", num_tokens=length) for length in (5, 9)], 1, verifier=verifier)
    assert metrics["reflection_words_per_1k_tokens"] == 0
    assert metrics["reflection_words_per_1k_tokens_low"] is None
    assert metrics["reflection_words_per_1k_tokens_high"] is None
    assert metrics["reflection_rate_high"] > 0.5  # Wilson, 0 of 2 questions


def test_rates_interval_is_wilsons_of_the_effective_number(verifier):
    """100 questions of one sample, 4 cut: share 0.04, SE² 0.04·0.96/99, so 99 effective trials: centre (0.04 +
    3.8416/198)/(1 + 3.8416/99) = 0.057183, half 1.96·sqrt(0.0384/99 + 3.8416/4/99²)/1.038804 = 0.041590."""
    metrics = of_verdicts(verifier, [CUT] * 4 + [RIGHT] * 96, 1)
    assert metrics["truncation_rate"] == pytest.approx(0.04)
    assert metrics["truncation_rate_low"] == pytest.approx(0.057183 - 0.041590, abs=1e-5)
    assert metrics["truncation_rate_high"] == pytest.approx(0.057183 + 0.041590, abs=1e-5)


def test_language_mix_and_reflection_by_hand(verifier):
    """Four completions of 100 tokens; two with words of reflection, three words: 7.5 in 1,000 tokens."""
    texts = ["we add", "Wait, we add. Hmm", "我们先算，不对", "3 + 5"]
    metrics = summarise([completion(text=text, num_tokens=100) for text in texts], 1, verifier=verifier)
    assert metrics["language_mix"] == {"zh": 0.25, "en": 0.5, "mixed": 0.0, "none": 0.25}
    assert metrics["reflection_rate"] == 0.5
    assert metrics["reflection_words_per_1k_tokens"] == 7.5
    low, high = metrics["reflection_words_per_1k_tokens_low"], metrics["reflection_words_per_1k_tokens_high"]
    assert 0 <= low < 7.5 < high <= 20  # the most: four times the text with two words in 100 tokens


def test_reflection_words_that_were_forced_are_not_the_models(verifier):
    """The one "Wait" was forced; of the other text's three, two were."""
    thoughts = [Thought(5, 1, False), Thought(9, 2, True)]
    texts = ["a Wait b", "a Wait b Wait c wait d"]
    completions = [completion(text=text, thought=thought) for text, thought in zip(texts, thoughts, strict=True)]
    budget = Thinking(min_tokens=4, max_tokens=None)
    metrics = summarise(completions, 1, verifier=verifier, thinking=budget)
    assert metrics["reflection_rate"] == 0.5
    assert metrics["reflection_words_per_1k_tokens"] == 1000 * 1 / 20


def test_thinking_keys_say_budget_and_what_was_forced(verifier):
    thoughts = [Thought(5, 1, False), Thought(9, 2, True)]
    completions = [completion(thought=thought) for thought in thoughts]
    budget = Thinking(min_tokens=4, max_tokens=9)
    metrics = summarise(completions, 1, verifier=verifier, thinking=budget)
    assert metrics["thinking_budget"] == {"min_tokens": 4, "max_tokens": 9}
    assert (metrics["mean_thinking_tokens"], metrics["mean_waits"], metrics["forced_to_end_rate"]) == (7, 1.5, 0.5)
    assert "thinking_budget" not in summarise(completions, 1, verifier=verifier)


def test_write_completions_nul_and_foreign_texts_come_back(verifier, tmp_path):
    completions = [completion(text="a\x00b 等等 \U0001f600"), completion(thought=Thought(3, 0, True))]
    summarise(completions[:1], 1, verifier=verifier)
    write_completions(tmp_path / "plain.parquet", completions[:1])
    (row,) = pq.read_table(tmp_path / "plain.parquet").to_pylist()
    assert row["completion"] == "a\x00b 等等 \U0001f600"
    assert "num_waits" not in row
    write_completions(tmp_path / "forced.parquet", completions[1:])
    (row,) = pq.read_table(tmp_path / "forced.parquet").to_pylist()
    assert (row["num_thinking_tokens"], row["num_waits"], row["was_forced_to_end"]) == (3, 0, True)


def test_intervals_every_estimate_lies_within_its_own(verifier):
    """Sixty questions of eight samples, from all right to all wrong."""
    verdicts = [RIGHT if (7 * place) % 60 > place // 8 else WRONG for place in range(480)]
    texts = ["", "Wait", "Hmm, wait", "yes"]
    completions = [
        completion(verdict, text=texts[place // 3 % 4], num_tokens=5 + place * place % 97)
        for place, verdict in enumerate(verdicts)
    ]
    metrics = summarise(completions, 8, verifier=verifier)
    names = [name.removesuffix("_low") for name in metrics if name.endswith("_low")]
    assert len(names) == 9
    for name in names:
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
    means = [one["mean"] for one in metrics["pass_at_k"].values()]
    assert means == sorted(means)
