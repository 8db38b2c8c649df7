"""Which keys of a recipe's `sft:`, `grpo:` or `ppo:` block need a package that is not installed.

TRL and transformers look for these packages late, some only after the weights are loaded, and each in its own words.
Nothing heavy is imported here: `r1 doctor` asks on a login node what a stage asks where it runs.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any

from tasks.core.errors import UserError
from tasks.core.trackers import chosen_trackers

EXTRA = "pip install -e '.[gpu]'"
_FLASH = "pip install flash-attn --no-build-isolation"
# transformers' name for an attention -> the package that has it. `kernels` has them all: it fetches them from the hub.
ATTENTION = {
    "flash_attention_2": ("flash_attn", _FLASH),
    "flash_attention_3": ("flash_attn_interface", "pip install kernels"),
    "flash_attention_4": ("flash_attn", "pip install flash-attn-4"),
}
# Optimisers of transformers' `optim` (trainer_optimizer.py, _OPTIMIZER_HANDLERS) that a package brings.
OPTIMISERS = {
    "bitsandbytes": (
        EXTRA,
        *("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "ademamix", "ademamix_8bit"),
        *("paged_ademamix_32bit", "paged_ademamix_8bit", "lion_32bit", "lion_8bit", "paged_lion_32bit"),
        *("paged_lion_8bit", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"),
    ),
    "torchao": ("pip install torchao", "adamw_torch_4bit", "adamw_torch_8bit"),
    "schedulefree": ("pip install schedulefree", "schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd"),
    "grokadamw": ("pip install grokadamw", "grokadamw"),
    "optimi": ("pip install torch-optimi", "stable_adamw"),
    "lomo_optim": ("pip install lomo-optim", "lomo", "adalomo"),
    "apollo_torch": ("pip install apollo-torch", "apollo_adamw", "apollo_adamw_layerwise"),
    "galore_torch": (
        "pip install galore-torch",
        *("galore_adamw", "galore_adamw_8bit", "galore_adafactor", "galore_adamw_layerwise"),
        *("galore_adamw_8bit_layerwise", "galore_adafactor_layerwise"),
    ),
}


def missing_packages(block: Mapping[str, Any], lora: Any = None) -> list[str]:
    """One sentence for every key that needs a package that is not here, with the command that installs it.

    `block` holds keys of a TRL config, `lora` the stage's Lora or None. Only whether a package is there is looked at,
    not whether it fits the GPU.
    """
    needs = [*_of_optimiser(block), *_of_model(block.get("model_init_kwargs") or {})]
    needs += [(f"report_to: {name}", name, f"pip install {name}") for name in _trackers(block)]
    if lora is not None and lora.base_bits is not None:
        needs.append((f"lora.base_bits: {lora.base_bits}", "bitsandbytes", EXTRA))
    if block.get("use_liger_kernel"):
        needs.append(("use_liger_kernel: true", "liger_kernel", "pip install liger-kernel"))
    if block.get("use_vllm"):  # the training itself too where a server generates: it sends the weights with vLLM's code
        needs.append(("use_vllm: true", "vllm", EXTRA))
    return [
        f"{key} needs the package {package}, which is not installed here: {command}, or leave the key out."
        for key, package, command in needs
        if not _is_installed(package)
    ]


def refuse_missing_packages(block: Mapping[str, Any], lora: Any = None) -> None:
    """Raise UserError that names every missing package, before any weights are loaded."""
    if sentences := missing_packages(block, lora):
        raise UserError(" ".join(sentences))


def _trackers(block: Mapping[str, Any]) -> list[str]:
    """`tensorboardX` stands in for TensorBoard."""
    names = chosen_trackers(block.get("report_to"))
    return [name for name in names if name != "tensorboard" or not _is_installed("tensorboardX")]


def _of_optimiser(block: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    optimiser = block.get("optim")
    return [
        (f"optim: {optimiser}", package, command)
        for package, (command, *names) in OPTIMISERS.items()
        if optimiser in names
    ]


def _of_model(kwargs: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What the keyword arguments of the model's loading need. `kernels` stands in for a flash attention."""
    needs = []
    attention = kwargs.get("attn_implementation")
    if attention in ATTENTION and not _is_installed("kernels"):
        package, command = ATTENTION[attention]
        needs.append((f"model_init_kwargs.attn_implementation: {attention}", package, command))
    elif isinstance(attention, str) and "/" in attention:
        needs.append((f"model_init_kwargs.attn_implementation: {attention}", "kernels", "pip install kernels"))
    if kwargs.get("use_kernels"):
        needs.append(("model_init_kwargs.use_kernels: true", "kernels", "pip install kernels"))
    return needs


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
