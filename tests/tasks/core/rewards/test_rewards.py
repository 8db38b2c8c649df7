"""Rewards with TRL's signature, and the mistakes of the tutorials they must not repeat."""

import pickle
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.core.rewards import REWARDS, build_rewards
from tests.tasks.core.rewards.reward_calls import chat, reward

GOLD = '{"numbers": [3, 5, 7], "target": 22}'
REQUIRED: dict[str, dict[str, Any]] = {
    "thought_length": {"full_at_chars": 100},
    "cosine": {"max_len": 100},
    "soft_overlong_punishment": {"max_completion_len": 100, "soft_punish_cache": 20},
    "language_consistency": {"language": "en"},
}
RIGHT = "<think>3 * 5 = 15\nthen 22</think>\n<answer>3 * 5 + 7</answer>"


def test_build_rewards_names_and_weights_follow_the_recipe() -> None:
    functions, weights = build_rewards({"countdown": 1, "format": {"weight": 0.1, "thought_is_open": True}})
    assert [function.__name__ for function in functions] == ["countdown", "format"]
    assert weights == [1.0, 0.1]


def test_build_rewards_every_reward_is_named_as_in_the_recipe() -> None:
    for name in REWARDS:
        (function,), _ = build_rewards({name: {"weight": 0.5, **REQUIRED.get(name, {})}})
        assert function.__name__ == name


def test_build_rewards_functions_survive_pickling() -> None:
    (original,), _ = build_rewards({"countdown": {"weight": 1.0, "use_all": False}})
    copy = pickle.loads(pickle.dumps(original))
    assert copy.__name__ == "countdown"
    assert copy(completions=["<answer>3*5</answer>"], answer=['{"numbers": [3, 5, 7], "target": 15}']) == [1.0]


def test_build_rewards_weights_may_be_negative_or_zero() -> None:
    assert build_rewards({"countdown": 1, "format": 0, "reasoning_steps": -0.5})[1] == [1.0, 0.0, -0.5]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "rewards is empty"),
        ({"formt": 1.0}, r"rewards.formt: no such reward. Did you mean format\? There are accuracy, code"),
        ({"format": "high"}, "rewards.format: weight is 'high'"),
        ({"format": True}, "rewards.format: weight is True"),
        ({"format": {"thought_is_open": True}}, "rewards.format: weight is None"),
        ({"countdown": {"weight": 1.0, "useall": False}}, r"rewards.countdown.useall.* Did you mean use_all\?"),
        ({"countdown": {"weight": 1.0, "use_all": 1}}, "rewards.countdown.use_all is 1: give true or false"),
        ({"thought_length": 0.1}, "rewards.thought_length.full_at_chars is missing"),
        ({"thought_length": {"weight": 0.1, "full_at_chars": 0}}, "give a whole number above 0"),
        ({"accuracy": {"weight": 1.0, "timeout_s": "5"}}, "give a number above 0"),
        ({"accuracy": {"weight": 1.0, "timeout_s": float("nan")}}, "give a number above 0"),
        ({"format": float("inf")}, "rewards.format: weight is inf"),
        ({"format": {"weight": 1.0, "layout": "r1"}}, "layout is 'r1': give one of think_answer, open_r1, think"),
        ({"format": {"weight": 1.0, "code_language": ""}}, r"is '': give a text that is not empty or nothing \(null\)"),
        ({"format": {"weight": 1.0, "layout": "think", "code_language": "python"}}, "layout think has none"),
        ({"cosine": {"weight": 1.0, "max_len": 100, "min_value_wrong": True}}, "is True: give a number"),
        (
            {"cosine": {"weight": 1.0, "max_len": 9, "min_value_correct": 2.0}},
            r"min_value_correct 2\.0 is above .* 1\.0",
        ),
        ({"repetition_penalty": {"weight": 1.0, "max_penalty": 0.5}}, r"is 0\.5: give a number of at most 0"),
        ({"repetition_penalty": {"weight": 1.0, "language": "de"}}, r"give one of en, zh or nothing \(null\)"),
        ({"soft_overlong_punishment": {"weight": 1.0, "max_completion_len": 9, "soft_punish_cache": -1}}, "at least 0"),
        (
            {"soft_overlong_punishment": {"weight": 1.0, "max_completion_len": 9, "soft_punish_cache": 10}},
            "is 10, more",
        ),
        ({"language_consistency": 1.0}, "rewards.language_consistency.language is missing"),
        ({"preference": {"weight": 1.0, "tasks": []}}, "a list, each a text that is not empty"),
        ({"preference": {"weight": 1.0, "reward_model": "x"}}, "rewards.preference.reward_model: no such parameter"),
    ],
)
def test_build_rewards_mistake_names_the_key_and_the_fix(spec: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_rewards(spec)


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (RIGHT, 1.0),  # one tutorial compares a match object with a string and always gives 0
        (chat(RIGHT), 1.0),
        ("t</think><answer>3 * 5 + 7</answer>", 1.0),
        ("<think>t</think><answer>3 + 5 + 7</answer>", 0.0),
        ("<think>t</think><answer>95**96**97</answer>", 0.0),  # hangs the tutorials' training
        ("<think>t</think>3 * 5 + 7", 0.0),
        ("", 0.0),
        ([], 0.0),
    ],
)
def test_countdown_reward_is_one_only_for_a_right_expression(completion: object, expected: float) -> None:
    assert reward({"countdown": 1.0}, completion, answer=GOLD) == expected


def test_countdown_reward_other_tasks_and_bad_golds_have_none() -> None:
    assert reward({"countdown": 1.0}, RIGHT, answer="22", task="math") is None
    assert reward({"countdown": 1.0}, RIGHT, answer="{}") is None
    assert reward({"countdown": 1.0}, RIGHT, answer=GOLD, task="countdown") == 1.0


def test_countdown_reward_use_all_can_be_turned_off() -> None:
    gold, answer = '{"numbers": [3, 5, 7], "target": 15}', "<think>t</think><answer>3*5</answer>"
    assert reward({"countdown": 1.0}, answer, answer=gold) == 0.0
    assert reward({"countdown": {"weight": 1.0, "use_all": False}}, answer, answer=gold) == 1.0


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (RIGHT, 1.0),
        ("  <think>\na\n\nb < c\n</think> <answer>\n1\n</answer>\n", 1.0),
        (chat("<think>a</think><answer>1</answer>"), 1.0),
        ("a</think><answer>1</answer>", 0.0),
        ("<think>a</think><answer></answer>", 0.0),
        ("<think> </think><answer>1</answer>", 0.0),
        ("<think>a</think>so<answer>1</answer>", 0.0),
        ("<think>a</think><answer>1</answer> done", 0.0),
        ("Sure <think>a</think><answer>1</answer>", 0.0),
        ("<think>a<think>b</think><answer>1</answer>", 0.0),
        ("<think>a</think><answer>1</answer><answer>2</answer>", 0.0),
        ("<answer>1</answer><think>a</think>", 0.0),
        ("<think>a<answer>1</answer></think>", 0.0),
        ("<think>a", 0.0),
        ("", 0.0),
    ],
)
def test_format_reward_wants_one_thought_and_one_answer(completion: object, expected: float) -> None:
    assert reward({"format": 1.0}, completion) == expected


def test_format_reward_prompt_that_ends_in_think_already_opened_the_thought() -> None:
    closing = "a</think>\n<answer>1</answer>"
    for prompt in ("Q\n<think>", "Q <think>\n", [{"role": "user", "content": "Q"}, *chat("Let me see.\n<think>")]):
        assert reward({"format": 1.0}, closing, prompt) == 1.0
        assert reward({"format": 1.0}, "<think>" + closing, prompt) == 0.0
    assert reward({"format": {"weight": 1.0, "thought_is_open": True}}, closing) == 1.0


def test_thought_length_grows_to_one_and_counts_line_breaks() -> None:
    spec = {"thought_length": {"weight": 1.0, "full_at_chars": 10}}
    assert reward(spec, "<think>abcd\n</think><answer>1</answer>") == 0.4
    assert reward(spec, "<think>ab\ncd</think><answer>1</answer>") == 0.5  # without DOTALL the tutorials give 0
    assert reward(spec, chat("<think>" + "a\n" * 50 + "</think>")) == 1.0
    assert reward(spec, "abcd</think><answer>1</answer>", "Q <think>") == 0.4
    assert reward(spec, "abcd</think>") == 0.4
    assert reward(spec, "<think>abcd") == 0.0
    assert reward(spec, "<think></think>") == 0.0


def test_accuracy_reward_judges_any_task_and_leaves_bad_golds_out() -> None:
    (accuracy,), _ = build_rewards({"accuracy": {"weight": 1.0, "timeout_s": 10.0}})
    rewards = accuracy(
        prompts=["Q"] * 5,
        completions=[chat(RIGHT), r"\boxed{x+1}", r"\boxed{x+2}", r"\boxed{1}", "no answer"],
        task=["countdown", "math", "math", "math", "math"],
        answer=[GOLD, "1+x", "1+x", "", "4"],
        completion_ids=[[1]] * 5,
    )
    assert rewards == [1.0, 1.0, 0.0, None, 0.0]


def test_rewards_that_judge_share_one_judgement_and_tell_the_log_of_it() -> None:
    limits = {"weight": 1.0, "timeout_s": 9.5}
    functions, _ = build_rewards({"accuracy": limits, "cosine": {**limits, "max_len": 4}, "length": limits})
    columns: list[tuple[str, list[Any]]] = []
    accuracy, cosine, length = (
        function(
            prompts=["Q"] * 3,
            completions=[r"\boxed{4}", r"\boxed{5}", "none"],
            completion_ids=[[1] * 2, [1] * 2, [1] * 4],
            task=["math"] * 3,
            answer=["4"] * 3,
            log_extra=lambda *column: columns.append(column),
        )
        for function in functions
    )
    assert accuracy == [1.0, 0.0, 0.0]
    assert cosine == pytest.approx([0.75, -0.75, -0.5])
    assert length == [-0.5, -0.5, 0.0]  # 9, 9 and 4 characters; a wrong one earns 0 at most
    assert columns == [("verdict", ["correct", "wrong", "no_answer"])] * 3


def test_countdown_reward_tells_the_log_its_verdicts() -> None:
    columns: list[tuple[str, list[Any]]] = []
    (countdown,), _ = build_rewards({"countdown": 1.0})
    rewards = countdown(
        completions=[RIGHT, RIGHT, RIGHT, "no"],
        answer=[GOLD, "22", "{}", GOLD],
        task=["countdown", "math", "countdown", "countdown"],
        log_extra=lambda *column: columns.append(column),
    )
    assert rewards == [1.0, None, None, 0.0]
    assert columns == [("verdict", ["correct", None, "unparsable_gold", "no_answer"])]


def test_rewards_that_judge_leave_other_tasks_out() -> None:
    for name in ("accuracy", "cosine", "length"):
        spec = {name: {"weight": 1.0, **REQUIRED.get(name, {})}}
        assert reward(spec, r"\boxed{4}", task="code", answer="{}", completion_ids=[1]) is None
