"""The static checks of tasks/core/preflight for the stages of a plan: `r1 doctor`, and before a GPU stage is launched.

They read the recipe's values, the model's config.json and the problems where these are known, and load no model.
Before `r1 run` there is no more than that: sampling the model is left to `r1 doctor --probe`, and what only the
training's own rollouts can tell is watched there, by the stage's `health`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from flows.plan import Outlook, Plan, PlannedStage
from flows.preflight_inputs import accelerate_text, model_shape, num_problems, stored
from tasks.core.errors import UserError
from tasks.core.preflight.batches import check_batches
from tasks.core.preflight.disk import check_disk
from tasks.core.preflight.finding import Finding
from tasks.core.preflight.gpu import Gpu, check_gpus, visible_gpus
from tasks.core.preflight.lengths import USUAL_PROMPT, check_lengths, measure_prompts
from tasks.core.preflight.memory import Estimate, estimate
from tasks.core.preflight.memory_check import check_memory
from tasks.core.preflight.packages import check_package, check_packages
from tasks.core.preflight.problems import Problems, check_rewards, read_problems
from tasks.core.preflight.sharding import Sharding, sharding_of
from tasks.core.preflight.template import judge_text, render
from tasks.core.preflight.training import Adapters, Training
from tasks.core.store import Store

KINDS: tuple[Literal["sft", "grpo", "ppo"], ...] = ("sft", "grpo", "ppo")


@dataclass(frozen=True)
class Machine:
    """Where the stages are to run. `gpu_gb`: GiB of one GPU, None where nobody knows."""

    is_here: bool
    gpus: tuple[Gpu, ...]
    gpu_gb: float | None


@dataclass(frozen=True)
class Checkup:
    """What was found about a stage. `estimate` is None where the model is not known, or the stage trains nothing."""

    name: str
    findings: tuple[Finding, ...]
    estimate: Estimate | None = None

    def of(self, level: str) -> list[str]:
        """The texts of one level."""
        return [finding.text for finding in self.findings if finding.level == level]


def this_machine(launch: str, gpu_gb: float | None = None) -> Machine:
    """The machine for `--launch`; its smallest GPU counts unless `gpu_gb` says otherwise."""
    gpus = tuple(visible_gpus()) if launch == "local" else ()
    return Machine(launch == "local", gpus, gpu_gb or min((gpu.memory_gb for gpu in gpus), default=None))


def preflight(plan: Plan, outlooks: Sequence[Outlook], store: Store, launch: str) -> list[str]:
    """Check the GPU stages that are to be built. Returns warnings, a line each.

    Raises UserError that lists everything, of all stages, that cannot work.
    """
    stages = [one.stage for one in outlooks if not one.cached and one.stage.spec.resources.gpus]
    machine = this_machine(launch) if stages else Machine(True, (), None)
    checkups = [check_stage(plan, stage, store, machine) for stage in stages]
    if refusals := [f"stage {one.name}: {text}" for one in checkups for text in one.of("refuse")]:
        raise UserError("\n  ".join(["this cannot work:", *refusals, f"See `r1 doctor {plan.recipe.path}`."]))
    return list(dict.fromkeys(f"stage {one.name}: {text}" for one in checkups for text in one.of("warn")))


def check_stage(plan: Plan, stage: PlannedStage, store: Store, machine: Machine) -> Checkup:
    """All static checks of one stage."""
    training = training_of(stage)
    if training is None:
        findings: Iterator[Finding] = _check_sampler(stage)
        return Checkup(stage.name, tuple(_as_seen(findings, machine)))
    case = _Case(plan, stage, store, training)
    found = [*case.findings(machine)]
    return Checkup(stage.name, tuple(_as_seen(iter(found), machine)), case.estimate(machine.gpu_gb))


def training_of(stage: PlannedStage) -> Training | None:
    """The stage as a training, None when it is none."""
    config, needs = stage.spec.config, stage.spec.resources
    kind = next((one for one in KINDS if hasattr(config, one)), None)
    if kind is None:
        return None
    lora: Any = getattr(config, "lora", None)
    return Training(
        kind=kind,
        block=getattr(config, kind),
        num_processes=needs.processes_per_node * needs.nodes,
        vllm_gpus=needs.vllm_gpus,
        lora=lora and Adapters(lora.r, lora.target_modules, getattr(lora, "base_bits", None)),
        rewards=getattr(config, "rewards", {}),
        keep_checkpoints_every=getattr(config, "keep_checkpoints_every", None),
    )


@dataclass(frozen=True)
class _Case:
    """One training with what is known of its inputs, each looked up once."""

    plan: Plan
    stage: PlannedStage
    store: Store
    training: Training

    @cached_property
    def checkpoint(self) -> Path | None:
        """The model's directory in the store, with its tokenizer."""
        artifact = stored(self.plan, self.stage, "model", self.store)
        return artifact / "model" if artifact else None

    @cached_property
    def problems(self) -> Problems | None:
        artifact = stored(self.plan, self.stage, "problems", self.store)
        return read_problems(artifact / "problems.parquet") if artifact else None

    @cached_property
    def shape(self) -> Any:
        return model_shape(self.plan, self.stage, self.store)

    @cached_property
    def sharding(self) -> Sharding:
        text = accelerate_text(getattr(self.stage.spec.resources, "accelerate", None))
        return sharding_of(self.training.block, text, self.training.num_processes)

    @cached_property
    def prompts(self) -> Any:
        return measure_prompts(self.checkpoint, self.problems.texts) if self.checkpoint and self.problems else None

    @property
    def prompt_tokens(self) -> int:
        return self.prompts.longest if self.prompts else USUAL_PROMPT

    def estimate(self, gpu_gb: float | None) -> Estimate | None:
        if self.shape is None or any(one.level == "refuse" for one in self._batches()):
            return None
        return estimate(self.training, self.shape, self.sharding, self.prompt_tokens, gpu_gb)

    def findings(self, machine: Machine) -> Iterator[Finding]:
        training = self.training
        yield from self._what_is_unknown()
        yield from self._batches()
        yield from check_packages(training, self.sharding)
        yield from check_lengths(training, self.shape, self.prompts)
        if machine.is_here and self.stage.spec.resources.gpus:
            yield from check_gpus(training, machine.gpus, self.stage.spec.resources.gpus)
        if self.estimate(machine.gpu_gb) and machine.gpu_gb and self.stage.spec.resources.gpus:
            yield from check_memory(training, self.shape, self.sharding, self.prompt_tokens, machine.gpu_gb)
        if self.shape:
            yield from check_disk(training, self.shape, self.sharding, self.store.root)
        if self.problems and training.has_rollouts:
            yield from check_rewards(training, self.problems)
            if self.checkpoint and (rendered := render(self.checkpoint, self.problems.prompts[0])):
                yield from judge_text(rendered, self.problems.prompts[0], training.rewards)

    def _batches(self) -> list[Finding]:
        if not self.training.has_rollouts:
            size = self.training["per_device_train_batch_size"] * self.training["gradient_accumulation_steps"]
            return [Finding("note", f"a step: {size * self.training.num_processes} traces.")]
        return list(check_batches(self.training, num_problems(self.plan, self.stage, self.store)))

    def _what_is_unknown(self) -> Iterator[Finding]:
        if self.shape is None:
            yield Finding("note", "the model is not there yet: memory and context are checked once it is.")
        if self.training.has_rollouts and not (self.checkpoint and self.problems):
            yield Finding(
                "note", "rewards, prompt lengths and chat template are checked once model and problems are built."
            )


def _check_sampler(stage: PlannedStage) -> Iterator[Finding]:
    """vLLM for a stage that samples with it in its own process."""
    config = stage.spec.config
    teacher = getattr(config, "teacher", None)
    for key, value in (("engine", getattr(config, "engine", None)), ("teacher.kind", getattr(teacher, "kind", None))):
        if value == "vllm":
            yield from check_package("vllm", f"{key}: vllm")


def _as_seen(findings: Iterator[Finding], machine: Machine) -> Iterator[Finding]:
    """What was seen on this machine only warns where the stage runs on another."""
    for finding in findings:
        if finding.of_machine and not machine.is_here and finding.level == "refuse":
            text = f"{finding.text} (Looked at here; the cluster's nodes may differ.)"
            yield replace(finding, level=cast(Any, "warn"), text=text)
        else:
            yield finding
