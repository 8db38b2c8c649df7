"""The kinds of values that a reward's parameters take, as annotations, and the check that names key, value and fix."""

import math
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from tasks.core.errors import UserError

Number = Annotated[float, "any"]
"""Any finite number; plain `float` is one above 0."""
Penalty = Annotated[float, "at most 0"]
Count = Annotated[int, "at least 0"]
"""Plain `int` is a whole number above 0."""


def is_number(value: Any) -> bool:
    """A finite int or float, which a bool is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """An int, which a bool is not."""
    return is_number(value) and isinstance(value, int)


_KINDS: dict[Any, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (lambda value: is_whole(value) and value > 0, "a whole number above 0"),
    Count: (lambda value: is_whole(value) and value >= 0, "a whole number of at least 0"),
    float: (lambda value: is_number(value) and value > 0, "a number above 0"),
    Penalty: (lambda value: is_number(value) and value <= 0, "a number of at most 0"),
    Number: (is_number, "a number"),
    str: (lambda value: isinstance(value, str) and bool(value), "a text that is not empty"),
    NoneType: (lambda value: value is None, "nothing (null)"),
}


def refuse_wrong_type(key: str, value: Any, wanted: Any) -> None:
    """Raise UserError unless `value` fits the annotation: one of the kinds above, Literal, list[kind], or a union."""
    fits, words = _check(wanted)
    if not fits(value):
        raise UserError(f"{key} is {value!r}: give {words}.")


def _check(wanted: Any) -> tuple[Callable[[Any], bool], str]:
    """What an annotation accepts, and the same in words."""
    if wanted in _KINDS:
        return _KINDS[wanted]
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return lambda value: isinstance(value, str) and value in arguments, f"one of {', '.join(arguments)}"
    checks = [_check(one) for one in arguments]
    if origin in (Union, UnionType):
        return lambda value: any(fits(value) for fits, _ in checks), " or ".join(words for _, words in checks)
    assert origin is list, f"{wanted} is no annotation for a reward's parameter"
    ((fits, words),) = checks
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value)), f"a list, each {words}"
