"""Rewards by the names users know: pure functions with TRL's signature, one a file.

`build_rewards` turns a recipe's `rewards:` into what GRPOTrainer takes. To add one: a file with `make(**parameters)`
that returns `f(prompts, completions, **columns) -> list[float | None]`, and its name in REWARDS.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tasks.core.errors import UserError
from tasks.core.rewards import accuracy, countdown, thought_length
from tasks.core.rewards import format as format_

Reward = Callable[..., list[float | None]]

REWARDS: dict[str, Callable[..., Reward]] = {
    "accuracy": accuracy.make,
    "countdown": countdown.make,
    "format": format_.make,
    "thought_length": thought_length.make,
}


def build_rewards(spec: Mapping[str, float | Mapping[str, Any]]) -> tuple[list[Reward], list[float]]:
    """(functions, weights) for GRPOTrainer's `reward_funcs` and `reward_weights`, in the order of `spec`.

    `spec` maps a name to its weight, or to {"weight": w, parameters of the reward…}. Each function's `__name__` is the
    reward's name, which TRL logs as rewards/<name>/mean. Raises UserError for an unknown name or parameter, a missing
    parameter or weight, and a value that is not a number.
    """
    if not spec:
        raise UserError(f"rewards is empty: name at least one of {', '.join(REWARDS)} with its weight.")
    functions, weights = [], []
    for name, value in spec.items():
        parameters = dict(value) if isinstance(value, Mapping) else {"weight": value}
        weights.append(_weight(name, parameters))
        functions.append(_build(name, parameters))
    return functions, weights


def _weight(name: str, parameters: dict[str, Any]) -> float:
    """Take `weight` out of the parameters."""
    weight = parameters.pop("weight", None)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise UserError(f"rewards.{name}: weight is {weight!r}: give a number, such as `{name}: 1.0`.")
    return float(weight)


def _build(name: str, parameters: dict[str, Any]) -> Reward:
    if name not in REWARDS:
        raise UserError(f"rewards.{name}: no such reward.{_nearest(name, REWARDS)} There are {', '.join(REWARDS)}.")
    allowed = inspect.signature(REWARDS[name]).parameters
    for key in parameters:
        if key not in allowed:
            listed = ", ".join(["weight", *allowed])
            raise UserError(f"rewards.{name}.{key}: no such parameter.{_nearest(key, allowed)} It takes {listed}.")
    for key, parameter in allowed.items():
        if parameter.default is inspect.Parameter.empty and key not in parameters:
            raise UserError(f"rewards.{name}.{key} is missing: add it under rewards.{name} beside weight.")
        if key in parameters:
            _refuse_wrong_type(f"rewards.{name}.{key}", parameters[key], parameter.annotation)
    function = REWARDS[name](**parameters)
    function.__name__ = function.__qualname__ = name
    return function


def _refuse_wrong_type(key: str, value: Any, wanted: type) -> None:
    """Parameters are bool, positive int or positive float."""
    if wanted is bool:
        fits = isinstance(value, bool)
    else:
        types = (int, float) if wanted is float else (int,)
        fits = isinstance(value, types) and not isinstance(value, bool) and value > 0
    if not fits:
        kind = {bool: "true or false", int: "a whole number above 0"}.get(wanted, "a number above 0")
        raise UserError(f"{key} is {value!r}: give {kind}.")


def _nearest(name: str, names: Mapping[str, Any]) -> str:
    matches = difflib.get_close_matches(name, names, 1)
    return f" Did you mean {matches[0]}?" if matches else ""
