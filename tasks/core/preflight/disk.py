"""The disk that a training's checkpoints need, against what is free where the store lies."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from tasks.core.checkpoint_disk import checkpoint_disk_gb, num_kept
from tasks.core.preflight.finding import Finding
from tasks.core.preflight.memory import trainable_parameters, weight_bytes
from tasks.core.preflight.model_shape import ModelShape
from tasks.core.preflight.sharding import Sharding
from tasks.core.preflight.training import Training
from tasks.core.training import KEEP_CHECKPOINTS

GB = 1e9


def check_disk(training: Training, shape: ModelShape, sharding: Sharding, store: Path) -> Iterator[Finding]:
    """Say what checkpoints and model take at most; refuse where the store has less free."""
    key, block = training.kind, training.block
    keep = block.get("save_total_limit", KEEP_CHECKPOINTS)
    if keep is None:
        yield Finding("warn", f"{key}.save_total_limit is null: every checkpoint is kept, and the disk fills up.")
    models = 2 if key == "ppo" else 1  # policy and critic
    num_trained = trainable_parameters(training, shape)
    needed = models * checkpoint_disk_gb(
        shape.num_parameters,
        trainable=num_trained if training.lora else None,
        optimizer=str(training["optim"]),
        keep_last=0 if block.get("save_strategy") == "no" else keep or 1,
        weight_bytes=weight_bytes(training, shape),
        is_deepspeed=sharding.kind == "zero",
        num_kept=num_kept(training["max_steps"], training.keep_checkpoints_every),
    )
    free = free_gb(store)
    said = f"checkpoints and model take up to {needed:.1f} GB of disk, and the store has {free:.1f} GB free"
    if needed > free:
        yield Finding(
            "refuse",
            f"{said}: lower {key}.save_total_limit, take an {key}.optim with smaller states (adamw_8bit, adafactor), "
            f"train a `lora`, {'raise keep_checkpoints_every, ' * (training.keep_checkpoints_every is not None)}or put "
            "the store on a larger disk (--store, R1_STORE).",
        )
    else:
        yield Finding("note", f"{said}.")


def free_gb(path: Path) -> float:
    """GB of 10^9 bytes free for this user where `path` lies or will lie."""
    existing = next(one for one in (path, *path.absolute().parents) if one.exists())
    return shutil.disk_usage(existing).free / GB
