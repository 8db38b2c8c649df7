"""Low-rank adapters: how a recipe asks for them, over a full or a quantised base, and how they are merged at the end.

LoRA: arXiv:2106.09685. QLoRA, adapters over a base of 4 bits: arXiv:2305.14314.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from tasks.core.files import read_json, write_json
from tasks.core.trl_requirements import refuse_missing_packages

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig


class Lora(BaseModel):
    """Low-rank adapters instead of full fine-tuning (LoRA, arXiv:2106.09685); merged into the weights at the end."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    r: int = Field(gt=0)
    """Rank."""
    alpha: int = Field(gt=0)
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = Field(ge=0, lt=1)
    """Dropout on the adapters' input."""
    target_modules: tuple[str, ...] = Field(min_length=1)
    """Names of the linear layers that get an adapter, such as [q_proj, v_proj]."""
    base_bits: Literal[4, 8] | None = None
    """Load the frozen base with 4 bits a weight (QLoRA: NF4, scales quantised too, computed in bf16) or with 8
    (LLM.int8). The adapters are merged into the base as it was before. Not quantised when left out."""

    @model_serializer(mode="wrap")
    def _without_what_is_left_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without base_bits where it is None: artifacts from before it existed keep their fingerprints."""
        dumped: dict[str, Any] = handler(self)
        return {key: value for key, value in dumped.items() if key != "base_bits" or value is not None}

    def to_peft(self) -> LoraConfig:
        """As PEFT wants it."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(self.target_modules),
            task_type="CAUSAL_LM",
        )

    def quantisation(self) -> BitsAndBytesConfig | None:
        """How transformers is to load the base; None where it is not quantised.

        Raises UserError when bitsandbytes is missing, before any weights are loaded.
        """
        if self.base_bits is None:
            return None
        refuse_missing_packages({}, self)
        import torch
        from transformers import BitsAndBytesConfig

        if self.base_bits == 8:
            return BitsAndBytesConfig(load_in_8bit=True)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )


def merge(model: Any, adapter: Path, target: Path) -> None:
    """Write to `target` a fresh copy of the base of `model` with the saved `adapter` merged into it, on the CPU: the
    trained one may be sharded over GPUs.

    The copy is not quantised, whatever the adapter was trained over. Its dtype is the trained weights', except over a
    quantised base: then it is the checkpoint's own.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # or ZeRO-3 would spread the copy over processes that do not come here
    path = model.peft_config[model.active_adapter].base_model_name_or_path
    is_quantised = getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False)
    base = AutoModelForCausalLM.from_pretrained(path, dtype="auto" if is_quantised else model.dtype)
    PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(target)
    settings = read_json(adapter / "adapter_config.json")
    write_json(adapter / "adapter_config.json", settings | {"base_model_name_or_path": None})
