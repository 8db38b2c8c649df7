"""Advantages and returns over tokens, with numbers worked by hand."""

import random

import pytest
import torch

from tasks.core.ppo.gae import gae, reward_at_end

VALUES = torch.tensor([[0.5, 0.25, 0.75]])
AT_END = torch.tensor([[0.0, 0.0, 1.0]])


def test_gae_with_both_at_one_is_the_return_minus_the_value() -> None:
    advantages, returns = gae(AT_END, VALUES, torch.ones(1, 3), gamma=1.0, gae_lambda=1.0)
    assert returns.tolist() == [[1.0, 1.0, 1.0]]
    assert advantages.tolist() == [[0.5, 0.75, 0.25]]


def test_gae_with_lambda_zero_is_the_td_error() -> None:
    advantages, returns = gae(AT_END, VALUES, torch.ones(1, 3), gamma=0.5, gae_lambda=0.0)
    # 0.5 x 0.25 - 0.5; 0.5 x 0.75 - 0.25; 1 - 0.75: nothing is bootstrapped behind the last token
    assert advantages.tolist() == [[-0.375, 0.125, 0.25]]
    assert returns.tolist() == [[0.125, 0.375, 1.0]]


def test_gae_in_between_sums_the_discounted_td_errors() -> None:
    advantages, _ = gae(AT_END, VALUES, torch.ones(1, 3), gamma=0.5, gae_lambda=0.5)
    # from the end: 0.25; 0.125 + 0.25 x 0.25; -0.375 + 0.25 x 0.1875
    assert advantages.tolist() == [[-0.328125, 0.1875, 0.25]]


def test_gae_ignores_padding_and_what_the_critic_says_of_it() -> None:
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    values = torch.tensor([[0.5, 0.25, 9.0], [7.0, 7.0, 7.0]])
    rewards = reward_at_end(torch.tensor([2.0, 5.0]), mask)
    assert rewards.tolist() == [[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]
    advantages, returns = gae(rewards, values, mask, gamma=1.0, gae_lambda=1.0)
    assert advantages.tolist() == [[1.5, 1.75, 0.0], [0.0, 0.0, 0.0]]
    assert returns.tolist() == [[2.0, 2.0, 0.0], [0.0, 0.0, 0.0]]


def test_reward_of_a_truncated_completion_falls_on_the_last_position() -> None:
    assert reward_at_end(torch.tensor([-1.0]), torch.ones(1, 3)).tolist() == [[0.0, 0.0, -1.0]]


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 1.0), (1.0, 0.0), (0.9, 0.95), (0.0, 1.0)])
def test_gae_equals_the_sum_of_its_definition(gamma: float, gae_lambda: float) -> None:
    rng = random.Random(0)
    lengths, width = [5, 1, 3, 0], 5
    values = [[rng.uniform(-1, 1) for _ in range(width)] for _ in lengths]
    rewards = [[rng.uniform(-1, 1) * (t < length) for t in range(width)] for length in lengths]
    mask = torch.tensor([[int(t < length) for t in range(width)] for length in lengths])
    advantages, returns = gae(torch.tensor(rewards), torch.tensor(values), mask, gamma=gamma, gae_lambda=gae_lambda)
    for row, length in enumerate(lengths):
        follow = [*values[row][:length], 0.0]
        errors = [rewards[row][t] + gamma * follow[t + 1] - follow[t] for t in range(length)]
        for t in range(width):
            wanted = sum((gamma * gae_lambda) ** k * error for k, error in enumerate(errors[t:]))
            assert advantages[row, t].item() == pytest.approx(wanted, abs=1e-6)
            assert returns[row, t].item() == pytest.approx(wanted + follow[t] if t < length else 0, abs=1e-6)
