"""Rewards by the names users know: pure functions with TRL's signature, one a file.

`build_rewards` turns a recipe's `rewards:` into what GRPOTrainer takes. To add one: a file with `make(**parameters)`
that returns `f(prompts, completions, completion_ids, **columns) -> list[float | None]`, and its name in REWARDS. Its
docstring says its range, the columns it reads, what it is for, where it comes from and how it is gamed.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.rewards import (
    accuracy,
    code,
    cosine,
    countdown,
    language_consistency,
    length,
    preference,
    reasoning_steps,
    repetition_penalty,
    soft_overlong_punishment,
    tag_count,
    thought_length,
)
from tasks.core.rewards import format as format_
from tasks.core.rewards.parameters import is_number, refuse_wrong_type

REWARDS: dict[str, Callable[..., Callable[..., list[float | None]]]] = {
    "accuracy": accuracy.make,
    "code": code.make,
    "cosine": cosine.make,
    "countdown": countdown.make,
    "format": format_.make,
    "language_consistency": language_consistency.make,
    "length": length.make,
    "preference": preference.make,
    "reasoning_steps": reasoning_steps.make,
    "repetition_penalty": repetition_penalty.make,
    "soft_overlong_punishment": soft_overlong_punishment.make,
    "tag_count": tag_count.make,
    "thought_length": thought_length.make,
}


class Reward:
    """One reward function; its `__name__` is what TRL logs as rewards/<name>/mean.

    An object rather than a closure, as in TRL, so that it can be pickled: the copy is built anew from its parameters.
    """

    def __init__(self, name: str, parameters: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
        self.__name__ = name
        self._arguments = (name, parameters, inputs)
        self._function = REWARDS[name](**parameters, **inputs)

    def __call__(self, **arguments: Any) -> list[float | None]:
        return self._function(**arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return Reward, self._arguments


def build_rewards(
    spec: Mapping[str, float | Mapping[str, Any]], *, reward_model: Path | None = None
) -> tuple[list[Reward], list[float]]:
    """(functions, weights) for GRPOTrainer's `reward_funcs` and `reward_weights`, in the order of `spec`.

    `spec` maps a name to its weight, or to {"weight": w, parameters of the reward…}. `reward_model` is the stage's
    input of that name, for `preference`; nothing is loaded before the first call. Raises UserError for an unknown name
    or parameter, a missing parameter or weight, and a value that the parameter does not take.
    """
    if not spec:
        raise UserError(f"rewards is empty: name at least one of {', '.join(REWARDS)} with its weight.")
    functions, weights = [], []
    for name, value in spec.items():
        parameters = dict(value) if isinstance(value, Mapping) else {"weight": value}
        weights.append(_weight(name, parameters))
        functions.append(_build(name, parameters, {"reward_model": reward_model}))
    return functions, weights


def _weight(name: str, parameters: dict[str, Any]) -> float:
    """Take `weight` out of the parameters."""
    weight = parameters.pop("weight", None)
    if not is_number(weight):
        raise UserError(f"rewards.{name}: weight is {weight!r}: give a number, such as `{name}: 1.0`.")
    return float(weight)


def _build(name: str, parameters: dict[str, Any], inputs: Mapping[str, Any]) -> Reward:
    if name not in REWARDS:
        raise UserError(f"rewards.{name}: no such reward.{_nearest(name, REWARDS)} There are {', '.join(REWARDS)}.")
    taken = inspect.signature(REWARDS[name]).parameters
    allowed = {key: parameter for key, parameter in taken.items() if key not in inputs}
    for key in parameters:
        if key not in allowed:
            listed = ", ".join(["weight", *allowed])
            raise UserError(f"rewards.{name}.{key}: no such parameter.{_nearest(key, allowed)} It takes {listed}.")
    for key, parameter in allowed.items():
        if parameter.default is inspect.Parameter.empty and key not in parameters:
            raise UserError(f"rewards.{name}.{key} is missing: add it under rewards.{name} beside weight.")
        if key in parameters:
            refuse_wrong_type(f"rewards.{name}.{key}", parameters[key], parameter.annotation)
    return Reward(name, parameters, {key: value for key, value in inputs.items() if key in taken})


def _nearest(name: str, names: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(names), 1)
    return f" Did you mean {matches[0]}?" if matches else ""
