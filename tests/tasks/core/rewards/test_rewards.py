"""Rewards with TRL's signature, and the mistakes of the tutorials they must not repeat."""

import pytest

from tasks.core.errors import UserError
from tasks.core.rewards import REWARDS, build_rewards

GOLD = '{"numbers": [3, 5, 7], "target": 22}'
RIGHT = "<think>3 * 5 = 15\nthen 22</think>\n<answer>3 * 5 + 7</answer>"


def reward(spec: dict, completion: object, prompt: object = "Q", **columns: object) -> float | None:
    """The reward of one completion by the only function of `spec`."""
    (function,), _ = build_rewards(spec)
    return function(prompts=[prompt], completions=[completion], **{key: [value] for key, value in columns.items()})[0]


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_build_rewards_names_and_weights_follow_the_recipe() -> None:
    functions, weights = build_rewards({"countdown": 1, "format": {"weight": 0.1, "thought_is_open": True}})
    assert [function.__name__ for function in functions] == ["countdown", "format"]
    assert weights == [1.0, 0.1]


def test_build_rewards_every_reward_is_named_as_in_the_recipe() -> None:
    for name in REWARDS:
        required = {"full_at_chars": 100} if name == "thought_length" else {}
        (function,), _ = build_rewards({name: {"weight": 0.5, **required}})
        assert function.__name__ == name


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "rewards is empty"),
        ({"formt": 1.0}, r"rewards.formt: no such reward. Did you mean format\? There are accuracy, countdown"),
        ({"format": "high"}, "rewards.format: weight is 'high'"),
        ({"format": True}, "rewards.format: weight is True"),
        ({"format": {"thought_is_open": True}}, "rewards.format: weight is None"),
        ({"countdown": {"weight": 1.0, "useall": False}}, r"rewards.countdown.useall.* Did you mean use_all\?"),
        ({"countdown": {"weight": 1.0, "use_all": 1}}, "rewards.countdown.use_all is 1: give true or false"),
        ({"thought_length": 0.1}, "rewards.thought_length.full_at_chars is missing"),
        ({"thought_length": {"weight": 0.1, "full_at_chars": 0}}, "give a whole number above 0"),
        ({"accuracy": {"weight": 1.0, "timeout_s": "5"}}, "give a number above 0"),
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
