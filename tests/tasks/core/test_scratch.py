"""The model from random weights."""

from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.scratch import Scratch, build_model, build_tokenizer
from tests.tasks.training_inputs import SHAPE, parsed


@pytest.mark.parametrize(("architecture", "has_bias"), [("llama", False), ("qwen2", True)])
def test_build_model_has_the_asked_for_shape(architecture: str, has_bias: bool) -> None:
    shape = parsed(Scratch, **(SHAPE | {"architecture": architecture}))
    model = build_model(shape, build_tokenizer(shape), seed=0)
    attention = model.model.layers[0].self_attn
    assert (len(model.model.layers), model.config.hidden_size, model.config.num_attention_heads) == (2, 32, 2)
    assert (attention.q_proj.bias is not None) is has_bias
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.generation_config.eos_token_id == model.config.eos_token_id == 2


@pytest.mark.parametrize(
    "change", [{"num_layers": 0}, {"hidden_size": 33}, {"num_heads": 32}, {"max_integer": -1}, {"architecture": "gpt"}]
)
def test_scratch_shape_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parsed(Scratch, **(SHAPE | change))
