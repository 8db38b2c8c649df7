"""Writing a training's weights where others load them: the last ones, and on the way those that are to be evaluated.

OUT/checkpoints/step-000050/ is a checkpoint like OUT/model: weights and tokenizer, nothing to go on from.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.core.checkpoint import step_folder
from tasks.core.lora import merge
from tasks.core.sharded import save_whole

NOT_PUBLISHED = ("training_args.bin", "README.md")  # a pickle and an empty model card, with this machine's paths


class KeepCheckpoints(TrainerCallback):
    """Keeps the weights after every `every` optimizer steps. It draws no random number of the training's."""

    def __init__(self, trainer: Trainer, out: Path, every: int) -> None:
        self.trainer, self.out, self.every = trainer, out, every

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """On every process: sharded weights are gathered from all."""
        if state.global_step % self.every:
            return
        kept = step_folder(self.out, state.global_step)
        partial = kept.with_name(f".{kept.name}.partial")
        with torch.random.fork_rng():
            save_checkpoint(self.trainer, partial, partial / "adapter")
        if not state.is_world_process_zero:
            return
        for path in partial.iterdir():
            if path.is_dir():  # an adapter that is merged, a critic
                shutil.rmtree(path)
        shutil.rmtree(kept, ignore_errors=True)  # of a run that was killed and came here again
        partial.rename(kept)


def save_checkpoint(trainer: Trainer, target: Path, adapter: Path) -> None:
    """Write weights and tokenizer to `target`; with adapters these to `adapter`, and the merged weights to `target`.

    Every process takes part, because DeepSpeed and FSDP gather the weights from all of them.
    """
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    is_adapter = hasattr(model, "merge_and_unload")
    saved = adapter if is_adapter else target
    save_whole(trainer, saved)
    if not trainer.is_world_process_zero():
        return
    for name in NOT_PUBLISHED:
        (saved / name).unlink(missing_ok=True)
    if is_adapter:
        merge(model, adapter, target)
    assert trainer.processing_class is not None
    trainer.processing_class.save_pretrained(target)
