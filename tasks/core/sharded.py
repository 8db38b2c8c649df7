"""Weights that are spread over processes by DeepSpeed or FSDP: that they truly are, and how they become one checkpoint.

Which of them is used comes from the file that `resources.accelerate` names, by way of accelerate's environment, or
from TRL's keys `deepspeed` and `fsdp`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import UserError

if TYPE_CHECKING:
    from transformers import Trainer


def refuse_unsharded(trainer: Trainer) -> None:
    """Raise UserError where FSDP was asked for and accelerate did without it, which it does on CPUs, and says nothing.

    DeepSpeed works on CPUs too.
    """
    is_asked = os.environ.get("ACCELERATE_USE_FSDP") == "true" or bool(trainer.args.fsdp)
    if is_asked and not trainer.is_fsdp_enabled:
        raise UserError(
            "FSDP is asked for, but accelerate shards with it on GPUs only, and there is none here: leave "
            "resources.accelerate out, or set it to ddp or zero3, which run on CPUs too."
        )


def save_whole(trainer: Trainer, path: Path) -> None:
    """Write the weights, or with LoRA the adapter, as one checkpoint. Every process must call this.

    FSDP gathers them only in this state dict type; with another one, the file's, transformers would write no weights.
    """
    plugin: Any = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is not None:
        plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(path))
