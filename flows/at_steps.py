"""An evaluation's `at_steps`: one stage in the recipe, one evaluation of each checkpoint that a training keeps.

`after: {stage: evaluate, model: grpo, at_steps: all, ...}` stands for after-50, after-100 ... with `checkpoint: 50`,
`checkpoint: 100` ...: stages like others, each cached and launched by itself, which the report draws as a curve.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flows.recipe_yaml import Document
from flows.schema import AT_STEPS
from flows.stage_spec import StageSpec

BLOCKS = {"train_sft": "sft", "train_grpo": "grpo", "train_ppo": "ppo"}


def at_steps(document: Document, spec: StageSpec, wanted: Any, earlier: Sequence[StageSpec]) -> list[StageSpec]:
    """`spec` once for each of the `wanted` steps of the training that it reads; none after a mistake."""
    path = ("stages", spec.name, AT_STEPS)
    training = next((one for one in earlier if one.name == spec.inputs.get("model")), None)
    config: Any = training.config if training else None
    every = getattr(config, "keep_checkpoints_every", None)
    if training is None or training.stage.name not in BLOCKS:
        document.mistake(path, "is for a `model` that is trained in this recipe: leave it out")
    elif every is None:
        document.mistake(
            path, f"asks for checkpoints, but {training.name} keeps none: set keep_checkpoints_every there"
        )
    elif getattr(spec.config, "checkpoint", None) is not None:
        document.mistake(path, "and checkpoint are both given: leave one of them out")
    else:
        last = getattr(config, BLOCKS[training.stage.name]).get("max_steps", -1)
        steps = list(range(every, last + 1, every)) if wanted == "all" else wanted
        if text := _mistake(wanted, steps, every, last):
            document.mistake(path, text)
        else:
            return [_at(spec, step) for step in steps]
    return []


def _mistake(wanted: Any, steps: Any, every: int, last: int) -> str:
    """What is wrong with the steps; empty when nothing is."""
    if wanted == "all" and 0 < last < every:
        return f"is all, but the training has {last} steps and keeps its first checkpoint at {every}"
    if wanted == "all" and not steps:
        return "is all, but how many steps the training takes is not said: give max_steps there, or list the steps"
    if not isinstance(steps, list) or not steps or any(type(step) is not int or step < 1 for step in steps):
        return f"is {wanted!r}, but should be all, or a list of steps such as [{every}, {2 * every}]"
    if wrong := [step for step in steps if step % every or (0 < last < step)]:
        upto = f" up to {last}" if last > 0 else ""
        return f"has {wrong[0]}, but the training keeps multiples of {every}{upto}"
    twice = [step for step in steps if steps.count(step) > 1]
    return f"has {twice[0]} twice: keep one of them" if twice else ""


def _at(spec: StageSpec, step: int) -> StageSpec:
    return replace(spec, name=f"{spec.name}-{step}", config=spec.config.model_copy(update={"checkpoint": step}))
