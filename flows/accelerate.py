"""A stage's `resources.accelerate`: which file it means, and whether the stage can be launched with it.

accelerate reads the file itself, at the launch. It is read here first, so that what cannot work is told before a job
waits in a queue for a day.
"""

from pathlib import Path
from typing import Any

from flows.recipe_yaml import read_document, shown
from flows.yaml_files import find_yaml, list_yaml
from slurm.resources import Resources
from tasks.core.errors import UserError
from tasks.core.stage import Stage, StageConfig

CONFIGS = Path(__file__).parent.parent / "recipes" / "accelerate"
KINDS = ("MULTI_GPU", "DEEPSPEED", "FSDP")
BLOCKS = ("sft", "grpo", "ppo")
OWN_KEYS = ("deepspeed", "fsdp", "fsdp_config")


def with_launch_config(stage: Stage, config: StageConfig, resources: Resources) -> Resources:
    """`resources` with the path of the file in the place of its name; as they are where no file is asked for.

    Raises UserError, to follow the key's name, when there is no such file or the stage cannot be launched with it.
    """
    if resources.accelerate is None:
        return resources
    if not stage.is_distributed:
        raise UserError(f"is for trainings, but {stage.name} runs as one process: leave it out.")
    path = find_config(resources.accelerate)
    settings = read_document(path, noun="configuration of accelerate", needs="distributed_type").values
    _check_kind(path, settings)
    _check_block(config, resources.accelerate)
    _check_quantised(config, path, settings)
    return resources.model_copy(update={"accelerate": str(path)})


def list_configs() -> list[Path]:
    """The files of the project, by name."""
    return list_yaml(CONFIGS)


def find_config(ref: str) -> Path:
    """The file that `ref` means, absolute. Raises UserError that lists the files there are."""
    advice = "Give the path of a file of your own, or the name of one in recipes/accelerate:"
    return find_yaml(ref, CONFIGS, f"is {ref!r}, which", advice).absolute()


def _check_kind(path: Path, settings: dict[str, Any]) -> None:
    """Refuse a file for something else than what a stage is launched with."""
    kind = settings.get("distributed_type")
    if kind not in KINDS:
        raise UserError(f"names {shown(path)}, whose distributed_type is {kind!r}: allowed are {', '.join(KINDS)}.")
    deepspeed = settings.get("deepspeed_config") or {}
    if deepspeed.get("zero_stage") == 3 and not deepspeed.get("zero3_save_16bit_model"):
        raise UserError(
            f"names {shown(path)}, whose deepspeed_config has zero_stage: 3 without zero3_save_16bit_model: true, "
            "without which no checkpoint comes out that anything can load: add it."
        )


def _check_block(config: StageConfig, ref: str) -> None:
    """Refuse two masters: the file, and TRL's own keys for the same thing."""
    for name in BLOCKS:
        block = getattr(config, name, {})
        if found := [key for key in OWN_KEYS if block.get(key)]:
            raise UserError(f"is {ref!r}, but {name}.{found[0]} says the same in another way: leave one of them out.")


def _check_quantised(config: StageConfig, path: Path, settings: dict[str, Any]) -> None:
    """Refuse to shard a quantised base: bitsandbytes' packed weights are not cut up by ZeRO-3 and FSDP2."""
    bits = getattr(getattr(config, "lora", None), "base_bits", None)
    kind, deepspeed = settings["distributed_type"], settings.get("deepspeed_config") or {}
    is_cut = kind == "FSDP" or (kind == "DEEPSPEED" and deepspeed.get("zero_stage") == 3)
    if bits is not None and is_cut:
        raise UserError(
            f"names {shown(path)}, which cuts the weights up, but lora.base_bits is {bits}, and quantised weights are "
            "kept whole: use ddp or zero2, or leave base_bits out."
        )
