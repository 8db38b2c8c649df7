"""The arithmetic of rollouts, as TRL's GRPOConfig and GRPOTrainer do it once the weights are loaded.

Source: trl 1.16, GRPOConfig.__post_init__ and GRPOTrainer._get_train_sampler. A generation batch is
per_device_train_batch_size x processes x steps_per_generation completions, in whole groups of num_generations; it is
trained on for steps_per_generation x num_iterations micro-batches, of which gradient_accumulation_steps make a step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tasks.core.preflight.finding import Finding
from tasks.core.preflight.training import Training


@dataclass(frozen=True)
class RolloutBatch:
    """Sizes in completions unless the name says otherwise; `per_step` may be a fraction where batches are reused."""

    generation_batch: int
    per_step: int
    prompts_per_generation: int
    steps_per_batch: float
    """Optimizer steps on one generation batch."""

    def steps_per_epoch(self, num_problems: int) -> float:
        """Optimizer steps until every problem was drawn once; the last, incomplete generation batch is left out."""
        return num_problems // self.prompts_per_generation * self.steps_per_batch


def check_batches(training: Training, num_problems: int | None) -> Iterator[Finding]:
    """Refuse sizes that TRL refuses, and fewer problems than a generation batch needs; else say what a step is.

    `num_problems`: of the train split, None where it is not known.
    """
    mistakes = list(_mistakes(training))
    yield from mistakes
    if mistakes:
        return
    batch = rollout_batch(training)
    fresh = batch.prompts_per_generation / batch.steps_per_batch
    yield Finding(
        "note",
        f"a step: {_number(fresh)} new problems x {training['num_generations']} completions, {batch.per_step} "
        f"completions trained on by {training.num_processes} process{'es' * (training.num_processes > 1)}; "
        f"{batch.generation_batch} completions sampled at a time.",
    )
    if num_problems is not None:
        yield from _epochs(training, batch, num_problems)


def rollout_batch(training: Training) -> RolloutBatch:
    """The sizes of a training without mistakes."""
    global_batch = training["per_device_train_batch_size"] * training.num_processes
    accumulation = training["gradient_accumulation_steps"]
    steps = training["steps_per_generation"] or (training["generation_batch_size"] or 0) // global_batch or accumulation
    return RolloutBatch(
        generation_batch=global_batch * steps,
        per_step=global_batch * accumulation,
        prompts_per_generation=global_batch * steps // training["num_generations"],
        steps_per_batch=steps * training["num_iterations"] / accumulation,
    )


def _mistakes(training: Training) -> Iterator[Finding]:
    kind, group, num_processes = training.kind, training["num_generations"], training.num_processes
    size = training["per_device_train_batch_size"]
    if training["generation_batch_size"] and training["steps_per_generation"]:
        yield Finding(
            "refuse", f"{kind}.generation_batch_size and {kind}.steps_per_generation exclude each other: give one."
        )
    elif (total := training["generation_batch_size"]) and total % (size * num_processes):
        above = _round(total, size * num_processes)
        yield Finding(
            "refuse",
            f"{kind}.generation_batch_size is {total}, no multiple of per_device_train_batch_size {size} x "
            f"{num_processes} processes: give {above}, or leave it out.",
        )
    elif group < 2 and kind != "ppo":  # whose critic takes the place of the group
        yield Finding("refuse", f"{kind}.num_generations is {group}: a group needs 2 or more to compare.")
    elif rollout_batch(training).generation_batch % group:
        yield _indivisible(training)
    parallel = training["vllm_tensor_parallel_size"]
    if training.uses_own_vllm and num_processes % parallel:
        yield Finding(
            "refuse",
            f"{kind}.vllm_tensor_parallel_size is {parallel}, but {num_processes} training processes cannot be cut "
            f"into groups of {parallel}: give a divisor of {num_processes}.",
        )


def _indivisible(training: Training) -> Finding:
    """The refusal of incomplete groups, with the nearest numbers of each key that mend it."""
    kind, group, size = training.kind, training["num_generations"], training["per_device_train_batch_size"]
    total = rollout_batch(training).generation_batch
    steps = total // (size * training.num_processes)
    fixes = [f"per_device_train_batch_size: {_nearest_factor(size, total // size, group)}"]
    steps_key = "steps_per_generation" if training["steps_per_generation"] else "gradient_accumulation_steps"
    if not training["generation_batch_size"]:
        fixes.append(f"{steps_key}: {_nearest_factor(steps, total // steps, group)}")
    if divisors := [number for number in range(2, total + 1) if total % number == 0]:
        fixes.append(f"num_generations: {min(divisors, key=lambda number: (abs(number - group), number))}")
    return Finding(
        "refuse",
        f"{kind}: per_device_train_batch_size {size} x {training.num_processes} processes x {steps} micro-batches are "
        f"{total} completions, no whole number of groups of num_generations {group}. The nearest that work: "
        f"{', or '.join(fixes)}.",
    )


def _nearest_factor(value: int, others: int, group: int) -> int:
    """The whole number nearest to `value`, the smaller of two, that makes value x others a multiple of `group`."""
    candidates = [number for number in range(1, value + group + 1) if number * others % group == 0]
    return min(candidates, key=lambda number: (abs(number - value), number))


def _round(value: int, step: int) -> int:
    """The multiple of `step` nearest to `value`, at least one."""
    return max(1, round(value / step)) * step


def _epochs(training: Training, batch: RolloutBatch, num_problems: int) -> Iterator[Finding]:
    kind, needed = training.kind, batch.prompts_per_generation
    if num_problems < needed:
        yield Finding(
            "refuse",
            f"{kind}: one generation batch takes {needed} problems, but there are {num_problems} to train on, so TRL "
            f"would find no batch at all: raise num_train to at least {needed}, or lower "
            "per_device_train_batch_size or gradient_accumulation_steps.",
        )
        return
    per_epoch = batch.steps_per_epoch(num_problems)
    max_steps = training["max_steps"]
    steps = max_steps if max_steps > 0 else per_epoch * training["num_train_epochs"]
    yield Finding(
        "note",
        f"{num_problems} problems are {_number(per_epoch)} steps an epoch; {_number(steps)} steps see "
        f"{_number(steps / per_epoch)} epochs.",
    )


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
