"""How a killed training run goes on to the same weights as one that was not killed.

transformers restores weights, optimizer, scheduler, random numbers and the place in the epoch. What this adds:
- a checkpoint that was not written to its end is dropped;
- checkpoints fall only on steps where a log row has just been written and where GRPO generates anew, because neither
  the half-filled row nor GRPO's buffered completions are part of a checkpoint;
- none is written after the last step, from which transformers would go on by one step;
- GRPO's sampler, which draws the permutations of all epochs from one generator, is moved on by the finished epochs;
- SFT's count of tokens, which TRL logs and does not restore, goes on.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOTrainer

from tasks.core.files import read_json

TRAINER_STATE = "trainer_state.json"  # the last file of a checkpoint that transformers writes


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; what a kill left half-written is removed."""
    whole = None
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])):
        try:
            read_json(path / TRAINER_STATE)
            whole = path
        except (OSError, json.JSONDecodeError):
            print(f"{path.name} was not written to its end: removed", flush=True)
            shutil.rmtree(path, ignore_errors=True)  # several processes may do it at once
    return whole


def restore_counters(trainer: Trainer, checkpoint: Path) -> int:
    """Give `trainer` what transformers does not restore from `checkpoint`; returns the step it goes on from."""
    state = read_json(checkpoint / TRAINER_STATE)
    print(f"resuming from step {state['global_step']}", flush=True)
    if isinstance(trainer, ResumableGRPOTrainer):
        trainer.num_epochs_done = int(state["epoch"])
    elif state["log_history"]:
        trainer._total_train_tokens = state["log_history"][-1].get("num_tokens", 0)
    return int(state["global_step"])


class ResumableGRPOTrainer(GRPOTrainer):
    """GRPOTrainer whose resumed run sees the problems in the order of an uninterrupted one, in every epoch."""

    num_epochs_done = 0

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)
        if sampler.shuffle:
            for _ in range(self.num_epochs_done):
                torch.randperm(sampler.num_samples, generator=sampler.generator)
        return sampler


class SaveWhereResumable(TrainerCallback):
    """Rounds `save_steps` up to steps from which a run can be resumed exactly, and drops the final checkpoint."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Change the state's save_steps, which decides; by then shares of all steps have become numbers of steps."""
        if state.save_steps:
            every = math.lcm(steps_per_cycle(args), max(1, int(state.logging_steps)))
            state.save_steps = math.ceil(state.save_steps / every) * every

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Drop the last checkpoint, unless the best one is looked for."""
        if state.global_step >= state.max_steps and not args.load_best_model_at_end:
            control.should_save = False
        return control


def steps_per_cycle(args: Any) -> int:
    """Optimizer steps after which GRPO generates new completions at a step's start; 1 for other trainers."""
    per_generation = getattr(args, "steps_per_generation", 1) * getattr(args, "num_iterations", 1)
    return math.lcm(per_generation, args.gradient_accumulation_steps) // args.gradient_accumulation_steps
