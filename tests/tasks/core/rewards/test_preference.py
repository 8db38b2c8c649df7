"""preference: a reward model's scores as a reward, and the input that it needs."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.core.ranking import RewardModel
from tasks.core.rewards import build_rewards
from tasks.core.rewards.preference import check_reward_model
from tests.tasks.core.rewards.reward_calls import chat
from tests.tasks.core.test_ranking import PROMPT, save_reward_model

TEXTS = ["3 5 </think> 7 - 3", "7 - 3", "<think> 3 5", "9 " * 70]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """As fetch_model would leave it."""
    root = tmp_path_factory.mktemp("preference")
    save_reward_model(root / "model")
    yield root


def score(artifact: Path, texts: list[str]) -> list[float | None]:
    return RewardModel(artifact / "model", 2).score([PROMPT] * len(texts), texts, lambda: None)


def prefer(artifact: Path, texts: list[str], task: list[str] | None = None, **parameters: Any) -> list[float | None]:
    (preference,), _ = build_rewards({"preference": {"weight": 1.0, **parameters}}, reward_model=artifact)
    columns = {} if task is None else {"task": task}
    return preference(prompts=[PROMPT] * len(texts), completions=list(map(chat, texts)), **columns)


def test_preference_is_the_models_score_and_none_for_what_it_cannot_read(artifact: Path) -> None:
    found = prefer(artifact, TEXTS)
    assert found == pytest.approx(score(artifact, TEXTS), abs=1e-5)
    assert found[3] is None and None not in found[:3]


def test_preference_answer_alone_is_what_follows_the_thought(artifact: Path) -> None:
    answer, empty = score(artifact, ["7 - 3", ""])
    assert answer != empty
    assert prefer(artifact, TEXTS[:3], part="answer") == pytest.approx([answer, empty, empty], abs=1e-5)


def test_preference_other_tasks_have_none_and_sigmoid_squashes(artifact: Path) -> None:
    raw = score(artifact, TEXTS[:1])[0]
    assert raw is not None
    found = prefer(artifact, TEXTS[:2], ["chat", "math"], tasks=["chat"], scale="sigmoid")
    assert found == [pytest.approx(1 / (1 + math.exp(-raw)), abs=1e-5), None]


def test_preference_loads_whole_weights_while_the_policy_is_under_zero3(artifact: Path) -> None:
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, is_deepspeed_zero3_enabled

    policy = HfDeepSpeedConfig({"zero_optimization": {"stage": 3}})
    assert is_deepspeed_zero3_enabled() and policy.is_zero3()
    assert prefer(artifact, TEXTS[:1]) == pytest.approx(score_outside(artifact), abs=1e-5)
    assert is_deepspeed_zero3_enabled()


def score_outside(artifact: Path) -> list[float | None]:
    from tasks.core.rewards.preference import _outside_zero3

    with _outside_zero3():
        return score(artifact, TEXTS[:1])


def test_check_reward_model_wants_both_or_neither(artifact: Path, tmp_path: Path) -> None:
    check_reward_model({"accuracy": 1.0}, None)
    check_reward_model({"preference": 1.0}, artifact)
    with pytest.raises(UserError, match=r"rewards\.preference asks a reward model, and the stage has no input"):
        check_reward_model({"preference": 1.0}, None)
    with pytest.raises(UserError, match=r"input reward_model, which only rewards\.preference uses"):
        check_reward_model({"accuracy": 1.0}, artifact)
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match=r"is no checkpoint: rewards\.preference needs"):
        check_reward_model({"preference": 1.0}, tmp_path)
    write_json(tmp_path / "model" / "config.json", {"architectures": ["LlamaForCausalLM"]})
    with pytest.raises(UserError, match=r"is LlamaForCausalLM: rewards\.preference needs"):
        check_reward_model({"preference": 1.0}, tmp_path)


def test_preference_without_a_reward_model_is_refused_at_the_call_only() -> None:
    (preference,), _ = build_rewards({"preference": 1.0})
    with pytest.raises(UserError, match="give the stage the input reward_model"):
        preference(prompts=[PROMPT], completions=["a"])
