"""How adapters are asked for, and what of that is part of an artifact's identity."""

import pytest
from pydantic import ValidationError

from tasks.core.lora import Lora
from tasks.train_sft import TrainSftConfig
from tests.tasks.training_inputs import parsed

LORA = {"r": 4, "alpha": 8, "dropout": 0.05, "target_modules": ["q_proj", "v_proj"]}


def identity_of(lora):
    return parsed(TrainSftConfig, sft={"max_steps": 1}, seed=0, lora=lora).identity()["lora"]


@pytest.mark.parametrize("more", [{}, {"base_bits": None}])
def test_lora_over_a_full_base_keeps_the_identity_that_it_had(more):
    assert identity_of(LORA | more) == LORA
    assert parsed(Lora, **LORA | more).quantisation() is None


def test_lora_over_a_quantised_base_is_another_training():
    assert identity_of(LORA | {"base_bits": 4}) == LORA | {"base_bits": 4}


def test_lora_has_no_base_of_five_bits():
    with pytest.raises(ValidationError, match="base_bits"):
        parsed(Lora, **LORA, base_bits=5)
