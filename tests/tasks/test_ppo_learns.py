"""PPO and GRPO from the same checkpoint, on the same reward, with as many completions: both learn it."""

from pathlib import Path
from typing import Any

import pytest

from tasks.train_grpo import TrainGrpoConfig, train_grpo
from tasks.train_ppo import TrainPpoConfig, train_ppo
from tests.tasks.training_inputs import folder, history_of, make_taught, parsed

NUM_STEPS, NUM_LAST, NUM_COMPLETIONS = 40, 8, 64
BLOCK: dict[str, Any] = {
    "max_steps": NUM_STEPS,
    "per_device_train_batch_size": NUM_COMPLETIONS,
    "max_completion_length": 40,
    "temperature": 1.0,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "beta": 0.0,
    "loss_type": "dapo",
    "bf16": False,
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "save_strategy": "no",
}
CRITIC = {"learning_rate": 3e-3, "gamma": 1.0, "gae_lambda": 1.0, "value_clip": 0.2, "value_loss_weight": 1.0}
COMMON: dict[str, Any] = {"rewards": {"format": 1.0}, "seed": 0, "num_logged_completions": 0}


def first_and_last(out: Path) -> tuple[float, float]:
    """The reward of the first step, and the mean of the last NUM_LAST."""
    rewards = [row["reward"] for row in history_of(out)]
    assert len(rewards) == NUM_STEPS
    return rewards[0], sum(rewards[-NUM_LAST:]) / NUM_LAST


@pytest.mark.slow
def test_ppo_learns_a_format_as_well_as_grpo(tmp_path: Path) -> None:
    inputs = make_taught(tmp_path, 150)
    grpo, ppo = folder(tmp_path / "grpo"), folder(tmp_path / "ppo")
    config = parsed(TrainGrpoConfig, grpo=BLOCK | {"num_generations": 8}, **COMMON)
    train_grpo(config, out=grpo, **inputs)
    config = parsed(TrainPpoConfig, ppo=BLOCK | {"num_generations": 8}, critic=CRITIC, **COMMON)
    train_ppo(config, out=ppo, **inputs)
    (grpo_first, grpo_last), (ppo_first, ppo_last) = first_and_last(grpo), first_and_last(ppo)
    said = f"GRPO {grpo_first:.2f} -> {grpo_last:.2f}, PPO {ppo_first:.2f} -> {ppo_last:.2f}"
    assert ppo_first == grpo_first, "they do not start from the same rollouts"
    assert ppo_last > ppo_first + 0.3, said
    # a mean of 512 rewards of 0 or 1 has a standard error of at most 0.022, the difference of two 0.031: three of them
    assert ppo_last >= grpo_last - 0.1, said
    losses = [row["value_loss"] for row in history_of(ppo)]
    assert sum(losses[-NUM_LAST:]) / NUM_LAST < losses[0] / 2, losses
