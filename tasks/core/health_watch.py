"""Looks after a training while it runs: ends it, on all ranks together, when tasks/core/health.py says so."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast, reduce
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.core.errors import Unhealthy
from tasks.core.health import NAN, Checkup, Verdict
from tasks.core.resume import TRAINER_STATE
from tasks.core.watchdog import Watchdog


class HealthWatch(TrainerCallback):
    """Shows every log row to `checkup`, looks for NaN before each optimizer step, and tells the watchdog of progress.

    Unhealthy is raised before the step's checkpoint is written, so the checkpoints on the disk are older than what was
    found at that step.
    """

    def __init__(self, out: Path, checkup: Checkup, watchdog: Watchdog) -> None:
        self.out, self.checkup, self.watchdog = out, checkup, watchdog

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show it the rows of a training that is resumed."""
        for row in state.log_history:
            self.checkup.see(row, was_skipped=True)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at one number of the gradient: clipping by its norm has made all of it NaN when any of it was.

        With fp16 the loss scaling skips such a step itself; DeepSpeed keeps its gradients elsewhere, and the log row
        has to tell.
        """
        if not self.checkup.health.stop_on_nan or args.fp16 or args.max_grad_norm <= 0:
            return
        is_nan = _first_gradient_is_nan(kwargs["model"])
        if args.world_size > 1:
            is_nan = bool(reduce(torch.tensor(float(is_nan), device=args.device), "sum").item())
        if is_nan:
            step = state.global_step + 1
            raise Unhealthy(self._describe(Verdict(f"the gradient of step {step} is NaN. {NAN}", step)))

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Raise Unhealthy, on all ranks, when the first finds a reason in the row."""
        self.watchdog.beat()
        num_before = len(self.checkup.warnings)
        was_skipped = bool(getattr(kwargs.get("optimizer"), "step_was_skipped", False))
        verdict = self.checkup.see(state.log_history[-1], was_skipped=was_skipped)
        if state.is_world_process_zero:
            for warning in self.checkup.warnings[num_before:]:
                print(f"warning: {warning}", flush=True)
        must_end = verdict is not None
        if args.world_size > 1:
            flag = torch.tensor(int(must_end), device=args.device)
            must_end = bool(broadcast(flag, from_process=0).item())
        if must_end:
            raise Unhealthy(self._describe(verdict) if verdict else "the first rank found the training unhealthy")

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """It moves."""
        self.watchdog.beat()

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """It moves."""
        self.watchdog.beat()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """It moves."""
        self.watchdog.beat()

    def _describe(self, verdict: Verdict) -> str:
        return f"unhealthy: {verdict.text} {_where_to_go_on(self.out, verdict.since_step)}"


@contextlib.contextmanager
def nan_logits_are_unhealthy(out: Path) -> Iterator[None]:
    """Raise Unhealthy in the place of torch's error when completions cannot be sampled because the logits are NaN."""
    try:
        yield
    except RuntimeError as error:
        if "probability tensor contains either" not in str(error):
            raise
        seen = f"the logits that completions are sampled from are NaN. {NAN}"
        raise Unhealthy(f"unhealthy: {seen} {_where_to_go_on(out, since_step=0)}") from error


def _first_gradient_is_nan(model: torch.nn.Module) -> bool:
    """Of the part that lies on this rank, where FSDP has sharded it."""
    gradients = (parameter.grad for parameter in model.parameters() if parameter.grad is not None)
    local = (gradient.to_local() if hasattr(gradient, "to_local") else gradient for gradient in gradients)
    first = next((gradient for gradient in local if gradient.numel()), None)
    return first is not None and bool(torch.isnan(first.flatten()[0]).item())


def _where_to_go_on(out: Path, since_step: int) -> str:
    """Which checkpoints there are, and how to use one with a recipe that has changed."""
    folders = [path.parent for path in (out / "work" / "checkpoints").glob(f"checkpoint-*/{TRAINER_STATE}")]
    steps = sorted(int(path.name.rpartition("-")[2]) for path in folders)
    curves = f"The curves so far are in {out / 'history.jsonl'}."
    if not steps:
        return f"{curves} There is no checkpoint yet: change the recipe and start again."
    good = [step for step in steps if not since_step or step < since_step]
    newest = out / "work" / "checkpoints" / f"checkpoint-{good[-1] if good else steps[0]}"
    age = "the last one from before" if good else "the oldest one, already after the first sign (see save_total_limit)"
    return (
        f"{curves} Checkpoints: steps {', '.join(map(str, steps))}; {age} is {newest}. The same recipe would resume "
        f"from step {steps[-1]} and come here again; a changed one starts anew, under a fingerprint of its own. To go "
        f"on from the checkpoint with changed values, copy it, and give the stage a `model` from fetch_model with "
        "source: local and its path (with a `lora`, only the adapter lies there: start anew)."
    )
