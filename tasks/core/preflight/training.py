"""A training as the checks see it: the recipe's TRL keys with TRL's defaults, and the processes it runs as."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": True,
    "optim": "adamw_torch_fused",
    "max_steps": -1,
    "num_train_epochs": 3.0,
    "fp16": False,
    "max_length": 1024,  # SFTConfig
    "num_generations": 8,
    "num_iterations": 1,
    "max_completion_length": 512,
    "beta": 0.0,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "repetition_penalty": 1.0,
    "use_vllm": False,
    "vllm_mode": "colocate",
    "vllm_gpu_memory_utilization": 0.3,
    "vllm_tensor_parallel_size": 1,
    "vllm_enable_sleep_mode": False,
}
"""TRL 1.16's defaults of the keys that the checks read; a test compares them with TRL's configs."""


@dataclass(frozen=True)
class Adapters:
    """The shape of a `lora:` block. `base_bits`: 4 or 8 where the base is quantised."""

    r: int
    target_modules: tuple[str, ...]
    base_bits: int | None = None


@dataclass(frozen=True)
class Training:
    """`kind` is also the key of the block: `sft`, `grpo` or `ppo`.

    `num_processes`: training processes over all nodes, one a GPU. `vllm_gpus`: GPUs of the server beside it.
    """

    kind: Literal["sft", "grpo", "ppo"]
    block: Mapping[str, Any]
    num_processes: int = 1
    vllm_gpus: int = 0
    lora: Adapters | None = None
    rewards: Mapping[str, Any] = field(default_factory=dict)
    keep_checkpoints_every: int | None = None

    def __getitem__(self, key: str) -> Any:
        """The recipe's value of a TRL key, or TRL's default (DEFAULTS; None for keys that have none there)."""
        value = self.block.get(key)
        return DEFAULTS.get(key) if value is None else value

    @property
    def has_rollouts(self) -> bool:
        """Whether it samples its own completions."""
        return self.kind != "sft"

    @property
    def uses_own_vllm(self) -> bool:
        """Whether vLLM shares the training's GPUs."""
        return bool(self["use_vllm"]) and self["vllm_mode"] == "colocate"

    @property
    def model_kwargs(self) -> Mapping[str, Any]:
        """TRL's model_init_kwargs, {} where they are not a mapping."""
        kwargs = self.block.get("model_init_kwargs")
        return kwargs if isinstance(kwargs, Mapping) else {}

    @property
    def checkpoints_activations(self) -> bool:
        """transformers' `activation_checkpointing`, or TRL's older name for it, which is on by default."""
        newer = self.block.get("activation_checkpointing")
        return bool(self["gradient_checkpointing"] if newer is None else newer)

    @property
    def computes_in_16_bits(self) -> bool:
        """Whether the forward pass is bf16 or fp16: TRL's bf16 is on unless it or fp16 says otherwise."""
        return bool(self["fp16"]) or self.block.get("bf16") is not False
