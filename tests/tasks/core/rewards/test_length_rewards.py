"""cosine, length, repetition_penalty and soft_overlong_punishment, by hand and against TRL's and open-r1's numbers."""

import importlib.util
from typing import Any

import pytest

from tasks.core.errors import UserError
from tests.tasks.core.rewards.reward_calls import reward, rewards

RIGHT, WRONG = r"\boxed{\frac{1}{3}}", r"\boxed{\frac{1}{2}}"


def judged(name: str, completions: list[str], lengths: list[int] | None = None, **parameters: Any) -> list[Any]:
    """Rewards of completions to one problem whose answer is a third."""
    count = len(completions)
    ids = [[1] * length for length in lengths or [1] * count]
    spec = {name: {"weight": 1.0, "timeout_s": 10.0, **parameters}}
    return rewards(spec, completions, completion_ids=ids, task=["math"] * count, answer=[r"\frac{1}{3}"] * count)


def test_cosine_falls_for_right_and_rises_for_wrong_answers() -> None:
    # cos(pi / 4) = 0.70711: the half cosine is 0.85355 at a quarter of max_len and 0.14645 at three quarters.
    lengths = [0, 25, 50, 75, 100, 200]
    right = judged("cosine", [RIGHT] * 6, lengths, max_len=100)
    assert right == pytest.approx([1.0, 0.92678, 0.75, 0.57322, 0.5, 0.5], abs=1e-5)
    wrong = judged("cosine", [WRONG] * 6, lengths, max_len=100)
    assert wrong == pytest.approx([-1.0, -0.92678, -0.75, -0.57322, -0.5, -0.5], abs=1e-5)


def test_cosine_takes_its_bounds_and_characters() -> None:
    assert judged("cosine", [RIGHT], [50], max_len=100, min_value_correct=0, max_value_correct=2.0) == [1.0]
    padded = [RIGHT.ljust(20), RIGHT.ljust(80), WRONG.ljust(20), WRONG.ljust(80)]
    found = judged("cosine", padded, max_len=100, unit="characters")
    assert found == pytest.approx([0.9523, 0.5477, -0.9523, -0.5477], abs=1e-4)


def test_cosine_bad_gold_leaves_the_reward_out() -> None:
    spec = {"cosine": {"weight": 1.0, "max_len": 10}}
    assert reward(spec, RIGHT, task="math", answer="") is None


def test_length_compares_within_the_problem() -> None:
    long = RIGHT + " " * 10
    assert judged("length", [RIGHT, WRONG]) == [0.0, 0.0]  # of one length
    assert judged("length", [RIGHT, long]) == [0.5, -0.5]
    assert judged("length", [WRONG, WRONG + " " * 10]) == [0.0, -0.5]
    assert judged("length", [RIGHT, RIGHT + " " * 5, long, WRONG, WRONG + " " * 10]) == [0.5, 0.0, -0.5, 0.0, -0.5]
    assert judged("length", [RIGHT] * 3, [10, 30, 20], unit="tokens") == [0.5, -0.5, 0.0]


def test_length_another_problem_counts_only_where_the_batch_is_compared() -> None:
    columns = {"task": ["math"] * 3, "answer": ["4"] * 3}
    batch = [r"\boxed{4}", r"\boxed{4} ", r"\boxed{4}  "], ["Q", "Q", [{"role": "user", "content": "R"}]]
    assert rewards({"length": 1.0}, *batch, **columns) == [0.5, -0.5, 0.0]
    assert rewards({"length": {"weight": 1.0, "compare": "batch"}}, *batch, **columns) == [0.5, 0.0, -0.5]


def test_length_bad_gold_compares_lengths_alone() -> None:
    columns = {"task": ["math"] * 2, "answer": [""] * 2}
    assert rewards({"length": 1.0}, [r"\boxed{a}", r"\boxed{a} xx"], **columns) == [0.5, -0.5]


@pytest.mark.parametrize(
    ("ids", "size", "penalty", "expected"),
    [
        ([1, 2, 3, 4], 2, -1.0, 0.0),
        ([5, 5, 5, 5, 5], 2, -1.0, -0.75),  # four pairs, one of them distinct
        ([5, 5, 5, 5, 5], 2, -0.5, -0.375),
        ([1, 2, 1, 2, 1, 2], 2, -1.0, -0.6),
        ([1, 2, 3, 1, 2, 3], 3, -1.0, -0.25),
        ([1, 2, 3], 3, -1.0, 0.0),
        ([1, 2], 3, -1.0, 0.0),
        ([], 3, -1.0, 0.0),
        ([5, 5, 5], 2, 0, 0.0),
    ],
)
def test_repetition_penalty_without_a_language_counts_tokens(
    ids: list[int], size: int, penalty: float, expected: float
) -> None:
    spec = {"repetition_penalty": {"weight": 1.0, "ngram_size": size, "max_penalty": penalty}}
    assert rewards(spec, ["a b c"], completion_ids=[ids]) == [pytest.approx(expected)]


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("this is a test sentence", 2, 0.0),
        ("this is a THIS Is a test", 2, -1 / 3),  # six pairs, four of them distinct
        ("A B C A B C E F G A B C A B C", 3, -5 / 13),
        ("word word word word", 3, -0.5),
        ("one two one two", 3, 0.0),
        ("two words", 3, 0.0),
        ("", 3, 0.0),
    ],
)
def test_repetition_penalty_english_counts_words(text: str, size: int, expected: float) -> None:
    spec = {"repetition_penalty": {"weight": 1.0, "ngram_size": size, "language": "en"}}
    assert reward(spec, text) == pytest.approx(expected)


@pytest.mark.skipif(importlib.util.find_spec("jieba") is None, reason="jieba, an optional package, is not installed")
def test_repetition_penalty_chinese_counts_jiebas_words() -> None:
    spec = {"repetition_penalty": {"weight": 1.0, "ngram_size": 2, "language": "zh"}}
    assert reward(spec, "这个这个这个这个这个") == -0.75


def test_repetition_penalty_chinese_without_jieba_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="jieba, which finds Chinese words, is not installed: `pip install jieba`"):
        reward({"repetition_penalty": {"weight": 1.0, "language": "zh"}}, "这个")


def test_soft_overlong_punishment_falls_over_the_last_tokens() -> None:
    spec = {"soft_overlong_punishment": {"weight": 1.0, "max_completion_len": 100, "soft_punish_cache": 20}}
    ids = [[1] * length for length in (0, 50, 80, 81, 90, 100, 101, 110)]
    assert rewards(spec, [""] * 8, completion_ids=ids) == [0.0, 0.0, 0.0, -0.05, -0.5, -1.0, -1.0, -1.0]
    spec["soft_overlong_punishment"]["soft_punish_cache"] = 0
    assert rewards(spec, [""] * 2, completion_ids=[[1] * 100, [1] * 101]) == [0.0, -1.0]
