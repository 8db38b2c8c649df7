"""A prefill in the chat template reaches GRPO's rollouts and the rewards, as it does sampling and fine-tuning."""

from pathlib import Path
from typing import Any

import pytest

from tasks.core.checkpoint import read_checkpoint
from tasks.core.errors import UserError
from tasks.fetch_model import FetchModelConfig, fetch_model
from tasks.train_grpo import TrainGrpoConfig, train_grpo
from tests.tasks.core.test_chat_templates import BYTES
from tests.tasks.test_prepare_data import prepared, write
from tests.tasks.training_inputs import folder, parsed

PREFILL = "Let me see.\n<think>"
GRPO: dict[str, Any] = {
    "max_steps": 1,
    "per_device_train_batch_size": 4,
    "num_generations": 2,
    "max_completion_length": 4,
    "bf16": False,
    "gradient_checkpointing": False,
    "logging_steps": 1,
}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    rows = [{"target": i + 3, "nums": [i, 3]} for i in range(4)]
    source = {"kind": "local", "path": str(write(tmp_path / "rows.jsonl", rows)), "task": "countdown"}
    columns = {"numbers_column": "nums", "target_column": "target", "prompt": "mini_r1"}
    prepared(tmp_path / "problems", source | columns, 4, 0)
    scratch = BYTES | {"max_positions": 1024}
    config = parsed(FetchModelConfig, source="scratch", scratch=scratch, seed=0, prefill=PREFILL)
    fetch_model(config, out=folder(tmp_path / "base"))
    return {"model": tmp_path / "base", "problems": tmp_path / "problems"}


def test_train_grpo_goes_on_from_the_prefill(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import GRPOTrainer

    shown: list[tuple[Any, Any]] = []
    original = GRPOTrainer._tokenize_prompts

    def watched(self: Any, prompts: Any) -> Any:
        found = original(self, prompts)
        shown.extend(zip(prompts, found[0], strict=True))
        return found

    monkeypatch.setattr(GRPOTrainer, "_tokenize_prompts", watched)
    rewards = {"countdown": 1.0, "format": {"weight": 1.0, "thought_is_open": True}}
    train_grpo(parsed(TrainGrpoConfig, grpo=GRPO, rewards=rewards, seed=0), out=folder(tmp_path / "out"), **inputs)
    checkpoint = read_checkpoint(inputs["model"] / "model")
    assert len(shown) >= 4
    for prompt, ids in shown:
        text, rendered = checkpoint.render([prompt])[0]  # as evaluation and the teachers show it
        assert tuple(ids) == rendered and text.endswith("<|im_start|>assistant\n" + PREFILL)
    # what it learnt keeps the prefill
    assert read_checkpoint(tmp_path / "out" / "model").render([shown[0][0]])[0][0].endswith(PREFILL)


def test_train_grpo_format_reward_must_know_of_the_prefill(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = parsed(TrainGrpoConfig, grpo=GRPO, rewards={"format": 1.0}, seed=0)
    with pytest.raises(UserError, match="generation prompt ends in <think>"):
        train_grpo(config, out=folder(tmp_path / "out"), **inputs)
