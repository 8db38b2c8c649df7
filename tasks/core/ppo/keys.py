"""A recipe's `critic:` block, and which keys of its `ppo:` block make no sense for PPO."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

LOSS_TYPES = ("dapo", "bnpo", "grpo", "dr_grpo")
"""TRL's losses that clip each token's ratio by its own advantage, as PPO does; they differ in what they divide by."""
WITHOUT_EFFECT = {
    "scale_rewards": "the reward is not scaled within a group; advantages are whitened over the generation batch",
    "multi_objective_aggregation": "the rewards are summed with their weights",
    "num_generations_eval": "the stage evaluate does that",
}
"""Keys of GRPOConfig that act on a group's advantages only, with what PPO does instead."""


class CriticKeys(BaseModel):
    """How the value model learns."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    learning_rate: float = Field(gt=0)
    """Peak learning rate of the value model; the schedule is the policy's."""
    gamma: float = Field(ge=0, le=1)
    """Discount a token; 1 for none."""
    gae_lambda: float = Field(ge=0, le=1)
    """1: advantage = return − value, unbiased; lower: less variance, biased by the values' errors."""
    value_clip: float | None = Field(gt=0)
    """How far a value may move from the one at generation time before its loss is clipped; null: no clipping."""
    value_loss_weight: float = Field(gt=0)
    """Weight of the value loss in the sum. Nothing is shared with the policy, so it only scales the critic's gradient,
    which counts where that is clipped."""


def ppo_mistakes(block: Mapping[str, Any]) -> dict[str, str]:
    """What PPO cannot do of a `ppo:` block: key → the end of the sentence "<key> ..."."""
    found = {key: f"has no effect in PPO: {why}; leave it out" for key, why in WITHOUT_EFFECT.items() if key in block}
    loss_type = block.get("loss_type", LOSS_TYPES[0])
    if loss_type not in LOSS_TYPES:
        found["loss_type"] = f"is {loss_type!r}, which does not clip each token's ratio: allowed are " + ", ".join(
            LOSS_TYPES
        )
    if block.get("importance_sampling_level", "token") != "token":
        found["importance_sampling_level"] = "must be token: PPO's advantages belong to tokens, not to sequences"
    if block.get("off_policy_mask_threshold") is not None:
        found["off_policy_mask_threshold"] = "drops sequences by the sign of their advantage; in PPO each token has one"
    return found
