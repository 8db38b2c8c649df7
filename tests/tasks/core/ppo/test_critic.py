"""The value model inside a tiny policy, and its loss by hand."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.core.ppo.critic import Critic, give_critic, is_critics, value_loss, without_critic

IDS = torch.tensor([[3, 4, 5, 6, 7, 8]])
ONES = torch.ones_like(IDS)


@pytest.fixture
def policy() -> LlamaForCausalLM:
    """With a critic whose head is not zero, so that values can differ."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=32, tie_word_embeddings=True, **shape)
    model = LlamaForCausalLM(config).eval()
    give_critic(model, Critic(LlamaForCausalLM(config).eval().base_model))
    torch.nn.init.normal_(model.critic.head.weight)
    return model


def values_of(policy: LlamaForCausalLM, ids: torch.Tensor, num_values: int) -> list[float]:
    mask = (ids != 0).long()
    with torch.no_grad():
        values = policy(input_ids=ids, attention_mask=mask, num_values=num_values, with_policy=False)
    assert values.shape == (1, num_values) and values.dtype == torch.float32
    return [float(value) for value in values[0]]


def test_critic_starts_with_values_of_zero() -> None:
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    values = Critic(LlamaForCausalLM(config).base_model)(IDS, ONES, 3)
    assert values.tolist() == [[0.0, 0.0, 0.0]]


def test_critic_values_a_state_before_its_token_is_known(policy: LlamaForCausalLM) -> None:
    before, other = values_of(policy, IDS, 3), IDS.clone()
    other[0, -1] = 20  # the last action: no state holds it
    assert values_of(policy, other, 3) == before
    other[0, -2] = 20  # the one before it: only the last state does
    changed = values_of(policy, other, 3)
    assert changed[:2] == before[:2] and changed[2] != before[2]


def test_critic_values_do_not_depend_on_padding(policy: LlamaForCausalLM) -> None:
    padded = torch.cat([torch.zeros(1, 2, dtype=torch.long), IDS], dim=1)
    assert values_of(policy, padded, 3) == pytest.approx(values_of(policy, IDS, 3), abs=1e-5)


def test_policy_with_critic_says_what_it_said_without(policy: LlamaForCausalLM) -> None:
    alone = policy(input_ids=IDS).logits
    beside, values = policy(input_ids=IDS, attention_mask=ONES, num_values=2)
    assert torch.equal(beside.logits, alone) and values.shape == (1, 2)
    generated = policy.generate(IDS, attention_mask=ONES, max_new_tokens=2, do_sample=False)
    assert generated.shape == (1, 8)


def test_without_critic_the_parameters_are_the_policys(policy: LlamaForCausalLM) -> None:
    names = [name for name, _ in policy.named_parameters()]
    with without_critic(policy):
        assert [name for name, _ in policy.named_parameters()] == [name for name in names if not is_critics(name)]
    assert [name for name, _ in policy.named_parameters()] == names
    assert "critic.head.weight" in names and is_critics("_fsdp_wrapped_module.critic.head.weight")
    assert not is_critics("model.critical.weight")


def test_value_loss_is_half_the_squared_error_without_clip() -> None:
    loss = value_loss(torch.tensor([[0.5, 1.0]]), torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), None)
    assert loss.tolist() == [[0.125, 0.5]]


def test_value_loss_takes_the_larger_of_clipped_and_unclipped() -> None:
    # old value 0, clip 0.25, return 1. A value of 0.5 counts as 0.25; one of -1 stays the worse: 4 against 1.25^2; one
    # of 0.125 is within the clip
    values = torch.tensor([[0.5, -1.0, 0.125]], requires_grad=True)
    loss = value_loss(values, torch.zeros(1, 3), torch.ones(1, 3), 0.25)
    assert loss.tolist() == [[0.5 * 0.75**2, 0.5 * 4.0, 0.5 * 0.875**2]]
    loss.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[0.0, -2.0, -0.875]]
