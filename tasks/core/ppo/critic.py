"""The value model: a second copy of the policy's backbone with a linear head, and its loss.

It rides inside the policy as the submodule `critic`, so that whatever prepares, shards, scales or checkpoints the
policy's parameters (accelerate, DDP, FSDP, DeepSpeed, gradient checkpointing) does the same for its own, and both
compute within one forward of the wrapped model, which those wrappers rely on. It shares no weight with the policy.
"""

import functools
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

NAME = "critic"
"""The submodule's name, the prefix of its parameters, and the folder it is saved in."""


class Critic(nn.Module):
    """Values of the states before each completion token, read from the hidden state of the token before it."""

    def __init__(self, backbone: Any) -> None:
        """`backbone`: a model without language-model head, of its own weights.

        The head starts at 0, so the first values are 0 and the first advantages are the rewards. No random number is
        drawn for it: the first rollouts are those of GRPO with the same seed.
        """
        super().__init__()
        self.backbone = backbone
        width = backbone.config.get_text_config().hidden_size
        self.head = nn.utils.skip_init(nn.Linear, width, 1, dtype=backbone.dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, num_values: int) -> torch.Tensor:
        """Values (B, num_values), float32, of the states before the last `num_values` tokens of (B, length)."""
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        values: torch.Tensor = self.head(hidden[:, -num_values - 1 : -1]).squeeze(-1)
        return values.float()


def give_critic(model: Any, critic: Critic) -> None:
    """Make `critic` a submodule of the policy `model`, and teach its forward two calls more.

    `model(..., num_values=T)` returns the policy's output and values (B, T); with `with_policy=False` only the values.
    Without `num_values` the forward is what it was, so generation is unchanged.
    """
    assert not hasattr(model, NAME), f"the policy has a module called {NAME} of its own"
    setattr(model, NAME, critic)
    policy_forward = model.forward

    @functools.wraps(type(model).forward)  # `generate` validates its arguments against this signature
    def forward(self: Any, *args: Any, num_values: int = 0, with_policy: bool = True, **kwargs: Any) -> Any:
        if not num_values:
            return policy_forward(*args, **kwargs)
        values = getattr(self, NAME)(kwargs["input_ids"], kwargs["attention_mask"], num_values)
        return (policy_forward(*args, **kwargs), values) if with_policy else values

    model.forward = types.MethodType(forward, model)


@contextmanager
def without_critic(model: Any) -> Iterator[None]:
    """For the time of the block the policy `model` has no critic: its parameters and state dict are the policy's."""
    critic = model._modules.pop(NAME)
    try:
        yield
    finally:
        model._modules[NAME] = critic


def is_critics(name: str) -> bool:
    """Whether a parameter of the policy, called `name`, possibly by a wrapper, is the critic's."""
    return NAME in name.split(".")


def value_loss(
    values_BT: torch.Tensor, old_values_BT: torch.Tensor, returns_BT: torch.Tensor, value_clip: float | None
) -> torch.Tensor:
    """Squared error of each token's value, times ½; shape (B, T).

    With `value_clip` the larger of it and of the same for a value kept within ± `value_clip` of the one at generation
    time, as OpenAI's PPO2 has it (openai/baselines@ea25b9e, ppo2/model.py): a value that has moved further than that
    towards its return gets no gradient.
    """
    error_BT = (values_BT - returns_BT) ** 2
    if value_clip is not None:
        clipped_BT = old_values_BT + (values_BT - old_values_BT).clamp(-value_clip, value_clip)
        error_BT = torch.maximum(error_BT, (clipped_BT - returns_BT) ** 2)
    return 0.5 * error_BT
