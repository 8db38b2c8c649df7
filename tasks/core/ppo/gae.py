"""Generalized advantage estimation over the tokens of completions (Schulman et al. 2016, arXiv:1506.02438).

Shapes: B completions, T tokens, padded on the right. A completion is one episode, a token one action, and the state
before token t is the prompt with the tokens before t. The only reward is the completion's, on its last real token.
A completion that was cut off at the length limit ends there like any other: nothing is bootstrapped from the value
behind its last token, as in Open-Reasoner-Zero and verl, because its reward is already final.
"""

import torch


def reward_at_end(rewards_B: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """rewards_BT: each completion's reward on its last real token, 0 elsewhere; a row without tokens gets none."""
    is_last_BT = mask_BT.bool() & (mask_BT.flip(1).cumsum(1).flip(1) == 1)
    return is_last_BT * rewards_B.unsqueeze(1)


def gae(
    rewards_BT: torch.Tensor, values_BT: torch.Tensor, mask_BT: torch.Tensor, *, gamma: float, gae_lambda: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """advantages_BT and returns_BT (the value model's targets), both 0 on padding.

    `mask_BT` is 1 on real tokens and 0 on the padding behind them; `gamma` discounts a token, `gae_lambda` trades bias
    (0: the one-step TD error) against variance (1: the discounted return minus the value). With both 1 the return of
    every token is the completion's reward.
    """
    values_BT = values_BT * mask_BT  # the state behind the last token is worth nothing
    advantages_BT = torch.zeros_like(values_BT)
    advantage_B, next_value_B = torch.zeros_like(values_BT[:, 0]), torch.zeros_like(values_BT[:, 0])
    for t in reversed(range(values_BT.size(1))):
        error_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        advantage_B = (error_B + gamma * gae_lambda * advantage_B) * mask_BT[:, t]
        advantages_BT[:, t], next_value_B = advantage_B, values_BT[:, t]
    return advantages_BT, advantages_BT + values_BT
