"""What train_sft and train_grpo share around TRL's trainers: arguments, data, logs, metrics, the final model."""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.core.checkpoint import read_tokenizer
from tasks.core.checkpoint_disk import check_checkpoint_disk
from tasks.core.errors import Unhealthy, UserError
from tasks.core.files import write_json, write_text
from tasks.core.health import BasicHealth, Checkup
from tasks.core.progress import Progress
from tasks.core.sharded import refuse_unsharded
from tasks.core.stopping import Paused
from tasks.core.trackers import chosen_trackers, numbers, prepare_trackers, show_numbers_only, swanlab_record
from tasks.core.trl_requirements import refuse_missing_packages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments

    Arguments = TypeVar("Arguments", bound=TrainingArguments)

SAVE_EVERY_STEPS = 50
KEEP_CHECKPOINTS = 2


def trainer_arguments(
    kind: type[Arguments], key: str, block: Mapping[str, Any], out: Path, seed: int, **ours: Any
) -> Arguments:
    """The recipe's TRL keys with what the project decides: where to write, the seed, checkpoints.

    `report_to` is never "swanlab" because `train` itself feeds it: transformers' callback stumbles over the means of
    nothing that TRL logs as None, with a traceback each, and stores this machine's paths. A loss that is NaN is logged
    as such, for the health check to see; transformers would put the mean of the losses before it in its place.
    `key` is the block's name in the recipe. Raises UserError with TRL's own words when the keys contradict each other.
    """
    import torch

    refuse_missing_packages(block)
    defaults = {"save_steps": SAVE_EVERY_STEPS, "save_total_limit": KEEP_CHECKPOINTS, "disable_tqdm": True}
    defaults["logging_nan_inf_filter"] = False
    trackers = chosen_trackers(block.get("report_to"))
    prepare_trackers(trackers, out)
    ours |= {"output_dir": str(out / "work" / "checkpoints"), "seed": seed, "report_to": trackers or "none"}
    if not torch.cuda.is_available():
        defaults["use_cpu"] = True  # TRL's bf16 default is refused on a machine without GPU unless this is said
    try:
        return kind(**{**defaults, **block, **ours})
    except ValueError as error:
        raise UserError(f"TRL refuses the values under `{key}`: {error}") from error


def load_tokenizer(model: Path) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer. Raises UserError when it is not there or has no chat template."""
    checkpoint = model / "model"
    if not (checkpoint / "config.json").is_file():
        raise UserError(
            f"{checkpoint} holds no checkpoint: `model` must point at fetch_model, train_sft, train_grpo or train_ppo."
        )
    tokenizer: PreTrainedTokenizerBase = read_tokenizer(checkpoint)
    if not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer in {checkpoint} has no chat template: set chat_template in the fetch_model stage."
        )
    return tokenizer


def load_rows(path: Path, out: Path) -> Any:
    """A Parquet file as a memory-mapped `datasets.Dataset`; it and all that is made from it stay under OUT/work."""
    from datasets import Dataset

    return Dataset.from_parquet(str(path), cache_dir=str(out / "work" / "datasets"))


def train(
    trainer: Trainer,
    out: Path,
    health: BasicHealth | None = None,
    keep_best: str | None = None,
    keep_every: int | None = None,
) -> dict[str, Any]:
    """Run `trainer` to its end, from its last whole checkpoint if there is one; write model/ and history.jsonl.

    `keep_best` names a logged number; the best checkpoint by it is written to best/ where it is not the last.
    `keep_every`: after so many steps each time the weights are kept in checkpoints/ (tasks/core/kept_checkpoints.py).
    Raises Paused, with a new checkpoint and no model, where OUT/stop asks for it; Unhealthy, with history.jsonl, when
    `health` says so; UserError when the checkpoints do not fit on the disk.
    Returns metrics of this process: steps, seconds, and memory in GiB; what the health check and the trackers have to
    say. Where a run was resumed, `resumed_from_step` is above 0 and the seconds cover the steps since.
    """
    import torch

    from tasks.core.best import KeepBest
    from tasks.core.kept_checkpoints import KeepCheckpoints, save_checkpoint
    from tasks.core.resume import last_checkpoint, restore_counters

    checkpoint = last_checkpoint(out / "work" / "checkpoints")
    first_step = restore_counters(trainer, checkpoint) if checkpoint else 0
    refuse_unsharded(trainer)
    check_checkpoint_disk(trainer, out, keep_every)
    tracking, checkup = swanlab_record(), Checkup(health or BasicHealth())
    best = KeepBest(keep_best) if keep_best else None
    started = time.monotonic()
    keeping = [KeepCheckpoints(trainer, out, keep_every)] if keep_every else []
    _run(trainer, out, checkpoint, checkup, [*keeping, *([best] if best else [])])
    wall_s = time.monotonic() - started
    save_checkpoint(trainer, out / "model", out / "adapter")
    _write_history(trainer, out)
    metrics = {"num_steps": trainer.state.global_step, "resumed_from_step": first_step, "train_wall_s": wall_s}
    metrics["s_per_step"] = wall_s / max(1, trainer.state.global_step - first_step)
    metrics["peak_memory_gb"] = peak_memory_gb()
    if torch.cuda.is_available():
        metrics["peak_gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 2**30
    metrics["health"] = {"verdict": "healthy", "warnings": checkup.warnings}
    return metrics | tracking | (best.publish(trainer, out) if best else {})


def _run(
    trainer: Trainer, out: Path, checkpoint: Path | None, checkup: Checkup, more: Sequence[TrainerCallback]
) -> None:
    """The training itself, with everything that looks on."""
    import swanlab

    from tasks.core.health_watch import HealthWatch, nan_logits_are_unhealthy
    from tasks.core.resume import PauseWhereResumable, SaveWhereResumable
    from tasks.core.watchdog import Watchdog

    show_numbers_only(trainer)
    with Watchdog(out, checkup.health.stall_minutes) as watchdog:
        health_watch = HealthWatch(out, checkup, watchdog)
        for callback in (SaveWhereResumable(), *more, _watch(out), health_watch, PauseWhereResumable(out)):
            trainer.add_callback(callback)
        try:
            with nan_logits_are_unhealthy(out):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except (Paused, Unhealthy) as end:
            if isinstance(end, Unhealthy):
                _write_history(trainer, out)
            if trainer.is_world_process_zero():
                swanlab.finish()
            raise


def write_metrics(trainer: Trainer, out: Path, metrics: Mapping[str, Any]) -> None:
    """Write OUT/metrics.json, from one process."""
    if trainer.is_world_process_zero():
        write_json(out / "metrics.json", dict(metrics))


def peak_memory_gb() -> float:
    """Peak resident memory of this process so far, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def first_and_last(log: Sequence[Mapping[str, Any]], key: str, name: str) -> dict[str, float]:
    """`<name>_first`, the first logged value, and `<name>_last`, the mean of the last tenth; empty if never logged."""
    values = [row[key] for row in log if key in row]
    if not values:
        return {}
    tail = values[-max(1, len(values) // 10) :]
    return {f"{name}_first": values[0], f"{name}_last": math.fsum(tail) / len(tail)}


def history(log: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A trainer's log without its closing summary, numbers only."""
    return [numbers(row) for row in log if "train_runtime" not in row]


def _write_history(trainer: Trainer, out: Path) -> None:
    if trainer.is_world_process_zero():
        write_text(out / "history.jsonl", "".join(json.dumps(row) + "\n" for row in history(trainer.state.log_history)))


def _watch(out: Path) -> TrainerCallback:
    """A callback that feeds progress.json and SwanLab."""
    import swanlab
    from transformers import TrainerCallback, TrainerControl, TrainerState

    class Watch(TrainerCallback):
        progress: Progress
        note = ""

        def on_train_begin(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None:
            if state.is_world_process_zero:
                self.progress = Progress(out, state.max_steps, "steps")

        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None:
            if state.is_world_process_zero:
                self.progress.update(state.global_step, self.note)

        def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
            if not state.is_world_process_zero:
                return
            logs = numbers(kwargs["logs"])
            swanlab.log(logs, step=state.global_step)
            parts = {"reward": "reward", "loss": "loss", "completions/mean_length": "length"}
            shown = [f"{word} {float(logs[key]):.3g}" for key, word in parts.items() if key in logs]
            self.note = ", ".join(shown) or self.note

        def on_train_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None:
            if state.is_world_process_zero:
                swanlab.finish()

    return Watch()
