"""How much disk a training's checkpoints take, before there is one.

A checkpoint holds the weights that are trained and the optimizer's state of them; one of 7 billion parameters in
float32 with Adam takes 84 GB. A new one is written before the oldest goes, and the finished model is written beside
those that are left. Nothing of them but the model is published: OUT/work is scratch. No heavy imports here: `r1 doctor`
asks before anything is loaded.
"""

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import UserError

if TYPE_CHECKING:
    from transformers import Trainer

GB = 1e9  # as disks are sold and `df -H` counts
MASTER_BYTES = 12  # a parameter's float32 copy and Adam's two moments, as DeepSpeed keeps them for 16-bit training


def checkpoint_disk_gb(
    num_parameters: int,
    *,
    trainable: int | None = None,
    optimizer: str = "adamw_torch_fused",
    keep_last: int = 2,
    weight_bytes: int = 4,
    is_deepspeed: bool = False,
    num_kept: int = 0,
) -> float:
    """The most that a training has on the disk at once, in GB of 10^9 bytes: checkpoints and the finished model.

    num_parameters: of the whole model; trainable: those of them that are trained, all when None, the adapters' with
    LoRA; optimizer: TRL's `optim`; keep_last: `save_total_limit`, 0 without checkpoints; weight_bytes: 4 for float32,
    TRL's default, 2 where model_init_kwargs asks for a 16-bit dtype; is_deepspeed: ZeRO of any stage;
    num_kept: weights kept on the way (`keep_checkpoints_every`).
    """
    num_trained = num_parameters if trainable is None else trainable
    is_lora = num_trained < num_parameters
    adapter_bytes = 4 * num_trained if is_lora else 0  # PEFT keeps adapters in float32
    saved_bytes = adapter_bytes or weight_bytes * num_parameters
    moment_bytes = _moment_bytes(optimizer, 4 if is_lora else weight_bytes)
    state_bytes = MASTER_BYTES if is_deepspeed else _num_moments(optimizer) * moment_bytes
    num_at_once = keep_last + 1 if keep_last else 0
    total = num_at_once * (saved_bytes + state_bytes * num_trained)
    return (total + adapter_bytes + (1 + num_kept) * weight_bytes * num_parameters) / GB


def check_checkpoint_disk(trainer: "Trainer", out: Path, keep_every: int | None = None) -> None:
    """Raise UserError, with the numbers and the keys to lower, when what `trainer` will write does not fit on the disk.

    What an interrupted run has left there counts as free: it will be replaced.
    """
    args = trainer.args
    keep_last = args.save_total_limit or _num_saves(args.max_steps, args.save_steps)
    sizes = [(_num_elements(parameter), parameter.requires_grad) for parameter in trainer.model.parameters()]
    num_parameters, trainable = sum(n for n, _ in sizes), sum(n for n, is_trained in sizes if is_trained)
    needed = checkpoint_disk_gb(
        num_parameters,
        trainable=trainable,
        optimizer=str(getattr(args.optim, "value", args.optim)),
        keep_last=0 if args.save_strategy == "no" else keep_last,
        weight_bytes=trainer.model.dtype.itemsize,
        is_deepspeed=args.deepspeed is not None,
        num_kept=num_kept(args.max_steps, keep_every),
    )
    work = out / "work" / "checkpoints"
    left_bytes = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    free = (shutil.disk_usage(out).free + left_bytes) / GB
    if needed > free:
        raise UserError(
            f"checkpoints and model need about {needed:.1f} GB, but {out} has {free:.1f} GB free: {num_parameters:,} "
            f"parameters, {trainable:,} of them trained, {keep_last} checkpoints kept and one being written. Lower "
            "save_total_limit, choose an optim with a smaller state (adamw_8bit, adafactor), train a `lora`, set "
            "save_strategy: no (it then cannot resume), raise keep_checkpoints_every, or put the store on a larger "
            "disk."
        )


def num_kept(max_steps: int, keep_every: int | None) -> int:
    """How often a training keeps its weights. The length of one that counts epochs is not known yet: once."""
    if keep_every is None:
        return 0
    return max_steps // keep_every if max_steps > 0 else 1


def _num_saves(max_steps: int, save_steps: float) -> int:
    """Checkpoints of a run that keeps them all. The length of one that counts epochs is not known yet: one."""
    if max_steps <= 0 or save_steps <= 0:
        return 1
    return math.ceil(1 / save_steps) if save_steps < 1 else math.ceil(max_steps / save_steps)


def _num_moments(optimizer: str) -> int:
    """Numbers that the optimizer keeps for each parameter."""
    if optimizer in ("sgd", "adafactor") or optimizer.startswith("galore_adafactor"):  # factored: rows and columns
        return 0
    return 1 if any(name in optimizer for name in ("lion", "rmsprop", "adagrad")) else 2


def _moment_bytes(optimizer: str, weight_bytes: int) -> int:
    return 1 if "8bit" in optimizer else 4 if "bnb" in optimizer or "paged" in optimizer else weight_bytes


def _num_elements(parameter: object) -> int:
    """Of the whole parameter, of which ZeRO-3 holds a part here and bitsandbytes two in a byte."""
    num: int = getattr(parameter, "ds_numel", None) or parameter.numel()  # type: ignore[attr-defined]
    return 2 * num if type(parameter).__name__ == "Params4bit" else num
