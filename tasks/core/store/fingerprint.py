"""Who an artifact is: what decides its content, as canonical JSON, and 20 hex digits of the sha256 of that text."""

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from tasks.core.errors import UserError
from tasks.core.stage import Stage, StageConfig
from tasks.core.store.redact import refuse_secrets

FINGERPRINT_DIGITS = 20
_BUILD_LABEL = re.compile(r"\+(cpu|cu\d+|rocm[\d.]+|xpu)$")


def canonical_json(value: Any) -> str:
    """The one text of a plain JSON value: sorted keys, no blanks, ASCII.

    Numbers are equal when their values are: 1, 1.0 and 1e0 give "1", because a hand-written recipe means the same
    experiment by each of them. true and "1" stay distinct from 1. Floats print as the shortest text that reads back
    to the same double.

    Raises UserError, with the dotted path, for NaN and infinity (NaN is not even equal to itself), and TypeError for
    what is not plain JSON, which is a bug of the caller.
    """
    return json.dumps(_normal(value, ""), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _normal(value: Any, path: str) -> Any:
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UserError(f"{path or 'the value'} is {value}: an identity takes finite numbers; leave the key out.")
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"{path or 'the value'} has a key that is not a string: {wrong[0]!r}")
        return {key: _normal(item, f"{path}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_normal(item, f"{path}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{path or 'the value'} is a {type(value).__name__}, not plain JSON")


def fingerprint_of(identity: Mapping[str, Any]) -> str:
    """First 20 hex digits of the sha256 of the canonical JSON of `identity`."""
    return hashlib.sha256(canonical_json(identity).encode("ascii")).hexdigest()[:FINGERPRINT_DIGITS]


def identity_of(
    stage: Stage, config: StageConfig, inputs: Mapping[str, str | Mapping[str, str]], recipe: str = ""
) -> dict[str, Any]:
    """Everything that decides the content of the artifact that `stage` makes from `config` and `inputs`.

    `inputs` maps an input's name to a fingerprint, or to {stage name: fingerprint}. The name of the recipe decides
    only what tells of the run. Raises UserError when a library that the stage names is not installed, or when the
    config holds a secret (it would stay in every record).
    """
    identity = {
        "stage": stage.name,
        "version": stage.version,
        "config": config.identity(),
        "inputs": {name: value if isinstance(value, str) else dict(value) for name, value in inputs.items()},
        "libraries": {name: _installed_version(name, stage.name) for name in sorted(stage.libraries)},
    }
    if stage.takes_all:
        identity["recipe"] = recipe
    refuse_secrets(identity)
    return identity


@functools.cache
def _installed_version(distribution: str, stage_name: str) -> str:
    """The version without its build label: torch 2.13.0+cpu and 2.13.0+cu130 differ in hardware, not in science."""
    from importlib import metadata

    try:
        return _BUILD_LABEL.sub("", metadata.version(distribution))
    except metadata.PackageNotFoundError:
        raise UserError(
            f"stage {stage_name} needs the package {distribution!r}, which is not installed: "
            f"install it (make env, or pip install {distribution})."
        ) from None
