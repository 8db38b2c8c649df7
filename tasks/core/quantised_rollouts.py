"""vLLM beside a training whose base is quantised: it serves, and is sent, the full weights.

TRL 1.16 would start vLLM with a quantised base as well and then send it tensors of another shape (huggingface/trl
issue 4973, open). It would also merge the adapters into the quantised weights and take them out again at every
synchronisation, each time with a rounding. Here the sum is worked out beside the model, one matrix at a time, and the
model stays as it is. vLLM's copy takes 2 bytes a parameter of the card, not half a byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer import grpo_trainer

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from tasks.core.lora import Lora


def full_weights(model: PeftModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Every weight by the name that it has in the base's checkpoint: dequantised, with the adapters added.

    Of weights that are tied, the first only. Works for weights that are whole in this process.
    """
    from peft.utils.integrations import dequantize_module_weight

    base = model.get_base_model()
    for name, parameter in base.named_parameters():
        if model.prefix in name:  # an adapter's own
            continue
        owner, _, kind = name.rpartition(".")
        module = base.get_submodule(owner)
        if kind != "weight":
            yield name.replace(".base_layer", ""), parameter.data
            continue
        weight = dequantize_module_weight(module).data
        layer = base.get_submodule(owner.removesuffix(".base_layer"))
        for adapter in getattr(layer, "active_adapters", ()):
            weight = weight + layer.get_delta_weight(adapter).detach().to(weight.dtype)
        yield name.replace(".base_layer", ""), weight


class _FullWeights(VLLMGeneration):
    """TRL's side of vLLM for a model with a quantised base."""

    model: Any

    def _init_vllm(self) -> None:
        """As TRL, but it sees no quantised layer, for which it would start a quantised engine, or refuse."""
        model = self.model
        self.model = SimpleNamespace(named_modules=list, name_or_path=model.name_or_path)
        try:
            super()._init_vllm()
        finally:
            self.model = model

    def _iter_named_params(self) -> Iterator[tuple[str, torch.Tensor]]:
        return full_weights(self.model)


@contextmanager
def full_weights_for_vllm(lora: Lora | None) -> Iterator[None]:
    """A GRPO trainer that is made inside keeps vLLM unquantised where `lora` has a quantised base."""
    original = grpo_trainer.VLLMGeneration
    if lora is not None and lora.base_bits is not None:
        grpo_trainer.VLLMGeneration = _FullWeights
    try:
        yield
    finally:
        grpo_trainer.VLLMGeneration = original
