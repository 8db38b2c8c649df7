"""How a training spreads its states over GPUs: ZeRO's stages (arXiv:1910.02054), FSDP, or whole copies (DDP)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Sharding:
    """`stage` counts as ZeRO's: 1 shares out the optimizer's states, 2 also gradients, 3 also weights."""

    kind: Literal["none", "ddp", "zero", "fsdp"]
    num_gpus: int
    stage: int = 0
    offloads_optimizer: bool = False
    offloads_weights: bool = False

    def share(self, stage: int) -> float:
        """What of a state a GPU holds that is shared out from `stage` on."""
        return 1 / self.num_gpus if self.stage >= stage else 1.0

    def __str__(self) -> str:
        name = {"none": "one GPU", "ddp": "DDP", "zero": f"ZeRO-{self.stage}", "fsdp": "FSDP"}[self.kind]
        offload = ", offloaded to the host" if self.offloads_optimizer or self.offloads_weights else ""
        return f"{name}{offload}" if self.kind == "none" else f"{name} over {self.num_gpus}{offload}"


def sharding_of(block: Mapping[str, Any], accelerate: str | None, num_gpus: int) -> Sharding:
    """From the text of an accelerate config, or TRL's keys `deepspeed` and `fsdp`; DDP where none says otherwise.

    A config that cannot be read counts as DDP, which needs the most memory.
    """
    if accelerate is not None:
        return _of_accelerate(accelerate, num_gpus)
    if deepspeed := block.get("deepspeed"):
        return _of_deepspeed(deepspeed, num_gpus)
    if fsdp := block.get("fsdp"):
        words = fsdp if isinstance(fsdp, list) else str(fsdp).split()
        stage = 2 if "shard_grad_op" in words else 3
        return Sharding("fsdp", num_gpus, stage, "offload" in words, "offload" in words)
    return Sharding("ddp" if num_gpus > 1 else "none", num_gpus)


def _of_accelerate(text: str, num_gpus: int) -> Sharding:
    """By the few keys that matter here: reading a whole YAML file is the business of accelerate."""

    def value(key: str) -> str:
        found = re.search(rf"^\s*{key}\s*:\s*['\"]?([\w.-]+)", text, re.MULTILINE)
        return found[1].lower() if found else ""

    if value("distributed_type") == "deepspeed":
        stage = int(value("zero_stage") or 2) if value("zero_stage").isdecimal() else 2
        offloads = [value(f"offload_{what}_device") in ("cpu", "nvme") for what in ("optimizer", "param")]
        return Sharding("zero", num_gpus, stage, *offloads)
    if value("distributed_type") == "fsdp":
        is_whole = value("fsdp_reshard_after_forward") in ("false", "shard_grad_op")
        offloads_all = value("fsdp_offload_params") == "true"
        return Sharding("fsdp", num_gpus, 2 if is_whole else 3, offloads_all, offloads_all)
    return Sharding("ddp" if num_gpus > 1 else "none", num_gpus)


def _of_deepspeed(given: Any, num_gpus: int) -> Sharding:
    """TRL's `deepspeed`: a mapping, or the path of a JSON file."""
    if isinstance(given, str):
        path = Path(given)
        given = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    zero = given.get("zero_optimization") or {}

    def goes_to_host(key: str) -> bool:
        return (zero.get(key) or {}).get("device", "none") != "none"

    return Sharding(
        "zero", num_gpus, int(zero.get("stage", 0)), goes_to_host("offload_optimizer"), goes_to_host("offload_param")
    )
