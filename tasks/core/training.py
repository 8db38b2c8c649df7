"""What train_sft and train_grpo share around TRL's trainers: arguments, checkpoints, logs, metrics, the final model."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from tasks.core.errors import UserError
from tasks.core.files import read_json, write_json, write_text
from tasks.core.progress import Progress

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback

SAVE_EVERY_STEPS = 50
KEEP_CHECKPOINTS = 2
TRAINER_STATE = "trainer_state.json"  # the last file of a checkpoint that transformers writes


class Lora(BaseModel):
    """Low-rank adapters instead of full fine-tuning (LoRA, arXiv:2106.09685); merged into the weights at the end."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    r: int
    """Rank."""
    alpha: int
    """Scale: the update is multiplied by alpha / r."""
    dropout: float
    """Dropout on the adapters' input, 0 to 1."""
    target_modules: tuple[str, ...]
    """Names of the linear layers that get an adapter, such as [q_proj, v_proj]."""

    def to_peft(self) -> LoraConfig:
        """As PEFT wants it."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(self.target_modules),
            task_type="CAUSAL_LM",
        )


def trainer_arguments(block: Mapping[str, Any], out: Path, seed: int) -> dict[str, Any]:
    """The recipe's TRL keys with what the project decides: where to write, the seed, SwanLab, checkpoints."""
    import torch

    defaults = {"save_steps": SAVE_EVERY_STEPS, "save_total_limit": KEEP_CHECKPOINTS, "disable_tqdm": True}
    ours = {"output_dir": str(out / "work" / "checkpoints"), "seed": seed, "report_to": "swanlab"}
    if not torch.cuda.is_available():
        defaults["use_cpu"] = True
    return {**defaults, **block, **ours}


def load_tokenizer(model: Path) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer. Raises UserError when it is not there or has no chat template."""
    from transformers import AutoTokenizer

    checkpoint = model / "model"
    if not (checkpoint / "config.json").is_file():
        raise UserError(
            f"{checkpoint} holds no checkpoint: `model` must point at fetch_model, train_sft or train_grpo."
        )
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    if not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer in {checkpoint} has no chat template: set chat_template in the fetch_model stage."
        )
    return tokenizer


def train(trainer: Trainer, out: Path, name: str) -> dict[str, Any]:
    """Run `trainer` to its end, from its last whole checkpoint if there is one, and write model/ and history.jsonl.

    Returns wall seconds, steps and peak memory of this process. A trainer built with `start_swanlab` and
    `trainer_arguments` before keeps everything under `out`.
    """
    import torch

    checkpoint = last_checkpoint(out / "work" / "checkpoints")
    if checkpoint is not None:
        print(f"resuming from {checkpoint.name}", flush=True)
    trainer.add_callback(_watch(out, name))
    started = time.monotonic()
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    wall_s = time.monotonic() - started
    _write_history(out, trainer.state.log_history)
    if trainer.is_world_process_zero():
        _save_model(trainer, out)
    metrics = {"num_steps": trainer.state.global_step, "train_wall_s": wall_s, "train_loss": result.training_loss}
    metrics["peak_memory_gb"] = peak_memory_gb()
    if torch.cuda.is_available():
        metrics["peak_gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 2**30
    return metrics


def start_swanlab(out: Path, name: str) -> None:
    """Open a SwanLab run whose files stay in OUT/swanlog; SWANLAB_MODE=online sends them to the user's account as well.

    transformers' own SwanLab callback then logs into it.
    """
    import swanlab

    log_dir = out / "swanlog"
    log_dir.mkdir(exist_ok=True)
    swanlab.init(mode=os.environ.get("SWANLAB_MODE", "offline"), log_dir=str(log_dir), project="r1flow", name=name)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; what a kill left half-written is removed."""
    whole = None
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])):
        try:
            read_json(path / TRAINER_STATE)
            whole = path
        except (OSError, json.JSONDecodeError):
            print(f"{path.name} was not written to its end: removed", flush=True)
            shutil.rmtree(path)
    return whole


def peak_memory_gb() -> float:
    """Peak resident memory of this process so far, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def history(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The per-step rows of a trainer's log, without the closing summary."""
    return [row for row in log if "train_runtime" not in row]


def _write_history(out: Path, log: list[dict[str, Any]]) -> None:
    write_text(out / "history.jsonl", "".join(json.dumps(row) + "\n" for row in history(log)))


def _save_model(trainer: Trainer, out: Path) -> None:
    """Write OUT/model; with adapters, the merged weights there and the adapter itself in OUT/adapter."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        model.save_pretrained(out / "adapter")
        model = model.merge_and_unload()
        model.save_pretrained(out / "model")
    else:
        trainer.save_model(str(out / "model"))
        (out / "model" / "training_args.bin").unlink(missing_ok=True)  # a pickle with this machine's paths
    assert trainer.processing_class is not None
    trainer.processing_class.save_pretrained(out / "model")


def _watch(out: Path, name: str) -> TrainerCallback:
    """A callback that feeds progress.json and keeps history.jsonl as fresh as the last checkpoint."""
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

    class Watch(TrainerCallback):
        progress: Progress
        note = ""

        def on_train_begin(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None:
            self.progress = Progress(out, state.max_steps, "steps")

        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None:
            if state.is_world_process_zero:
                self.progress.update(state.global_step, self.note)

        def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
            logs = kwargs["logs"]
            parts = {"reward": "reward", "loss": "loss", "completions/mean_length": "length"}
            shown = [f"{word} {float(logs[key]):.3g}" for key, word in parts.items() if key in logs]
            self.note = ", ".join(shown) or self.note

        def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                _write_history(out, state.log_history)

    return Watch()


def write_metrics(out: Path, metrics: Mapping[str, Any]) -> None:
    """Write OUT/metrics.json."""
    write_json(out / "metrics.json", dict(metrics))
