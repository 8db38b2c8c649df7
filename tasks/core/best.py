"""Keeping the best checkpoint of a training beside its last ones: by the mean of a logged number between two saves.

TRL's own `load_best_model_at_end` needs an evaluation during the training, which the stages leave to `evaluate`. The
rewards of a training are an estimate from other problems at each step, so the best checkpoint is a candidate, not a
proof: model/ stays the last one, and best/ is published beside it.
"""

import math
import shutil
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.core.errors import UserError
from tasks.core.files import read_json, write_json
from tasks.core.rollout_trainer import REFERENCE
from tasks.core.spelling import nearest

WEIGHTS = (".safetensors",)
BESIDE_WEIGHTS = (".json", ".jinja", ".txt", ".model")  # configs, tokenizer, template
OF_THE_TRAINER = ("trainer_state.json", REFERENCE)


class KeepBest(TrainerCallback):
    """Names the best checkpoint in the trainer's state, where transformers spares it when it deletes old ones.

    Candidates are the checkpoints at multiples of `save_steps`: one that a pause added has to change nothing.
    A metric whose name ends in "loss" is better when it is smaller.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Before the checkpoint of this step is written. Raises UserError when the first row lacks the metric."""
        logged = state.log_history[0]
        if self.metric not in logged:
            given = f"keep_best is {self.metric!r}{nearest(self.metric, logged)}"
            raise UserError(f"{given}: the training does not log that; give one of {', '.join(sorted(logged))}.")
        if not state.save_steps or state.global_step % state.save_steps or not control.should_save:
            return
        value = self._mean_since(state, state.global_step - int(state.save_steps))
        if value is not None and self._is_best(value, state):
            state.best_metric, state.best_global_step = value, state.global_step

    def publish(self, trainer: Trainer, out: Path) -> dict[str, Any]:
        """Copy the best checkpoint's weights to OUT/best, unless the last step is the best; returns what metrics say.

        {"best": {"metric", "value", "step"}}. With a `lora` OUT/best holds the adapter.
        """
        state, every = trainer.state, max(1, int(trainer.state.save_steps))
        last = self._mean_since(state, (state.global_step - 1) // every * every)
        if state.best_global_step is None or (last is not None and self._is_best(last, state)):
            state.best_metric, state.best_global_step = last, state.global_step
        elif trainer.is_world_process_zero():
            _copy_weights(out / "work" / "checkpoints" / f"checkpoint-{state.best_global_step}", out / "best")
        return {"best": {"metric": self.metric, "value": state.best_metric, "step": state.best_global_step}}

    def _mean_since(self, state: TrainerState, step: int) -> float | None:
        """None where no row after `step` has it, as between two generations of GRPO, or has a number."""
        rows = [row for row in state.log_history if row["step"] > step]
        values = [row[self.metric] for row in rows if row.get(self.metric) is not None]
        return math.fsum(values) / len(values) if values else None

    def _is_best(self, value: float, state: TrainerState) -> bool:
        if state.best_metric is None:
            return True
        return value < state.best_metric if self.metric.endswith("loss") else value > state.best_metric


def _copy_weights(checkpoint: Path, target: Path) -> None:
    """All of a checkpoint that is needed to load the model: no optimizer, no pickle, no path of this machine."""
    files = [path for path in checkpoint.iterdir() if path.name not in OF_THE_TRAINER]
    files = [path for path in files if path.suffix in WEIGHTS + BESIDE_WEIGHTS]
    if not any(path.suffix in WEIGHTS for path in files):
        print(f"warning: {checkpoint.name} holds its weights in shards only, so best/ is not written", flush=True)
        return
    target.mkdir(exist_ok=True)
    for path in files:
        shutil.copyfile(path, target / path.name)
    adapter = target / "adapter_config.json"
    if adapter.is_file():
        write_json(adapter, read_json(adapter) | {"base_model_name_or_path": None})
