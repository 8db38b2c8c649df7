"""Changes of a checkpoint that leave its weights alone: keys of its config, and the token that ends a turn."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.core.errors import UserError
from tasks.core.spelling import nearest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FIXED = {"model_type", "architectures", "auto_map", "transformers_version", "_name_or_path", "quantization_config"}
"""Keys that say what the checkpoint is."""


def override_config(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", overrides: Mapping[str, Any]
) -> None:
    """Set these keys of the model's config, to be saved with it.

    `rope_theta` goes where transformers 5 keeps it, into rope_parameters, and the frequencies follow when the
    checkpoint is loaded. `max_position_embeddings` becomes the tokenizer's model_max_length too.
    Raises UserError for an unknown key, a value that the config refuses, or one that changes the shape of a weight.
    """
    from huggingface_hub.errors import StrictDataclassError

    config = model.config
    known = sorted(set(config.to_dict()) - FIXED | ({"rope_theta"} if _rope_dicts(config) else set()))
    for key, value in overrides.items():
        if key not in known:
            raise UserError(
                f"config_overrides.{key}: a {config.model_type} config has no such key that may be changed"
                f"{nearest(key, known)}. It has {', '.join(known)}."
            )
        try:
            if key == "rope_theta":
                _set_rope_theta(config, value)
            else:
                setattr(config, key, value)
        except (StrictDataclassError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"config_overrides.{key} is {value!r}, which the config refuses: {reason}") from error
    _check_shapes(model, overrides)
    if "max_position_embeddings" in overrides:
        tokenizer.model_max_length = overrides["max_position_embeddings"]


def set_end_token(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", token: str) -> None:
    """Make `token` the one that ends a completion. Raises UserError when the vocabulary lacks it."""
    if token not in tokenizer.get_vocab():
        raise UserError(f"eos_token is {token!r}, which is no token of the tokenizer: name one of its vocabulary.")
    tokenizer.eos_token = token
    model.config.eos_token_id = tokenizer.eos_token_id
    if model.generation_config is not None:
        model.generation_config.eos_token_id = tokenizer.eos_token_id


def _rope_dicts(config: Any) -> list[dict[str, Any]]:
    """The config's dicts with a rope_theta: one, or one for each type of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    return [one for one in (nested or [parameters]) if "rope_theta" in one]


def _set_rope_theta(config: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError("it is a number above 0")
    for parameters in _rope_dicts(config):
        parameters["rope_theta"] = float(value)


def _check_shapes(model: "PreTrainedModel", overrides: Mapping[str, Any]) -> None:
    """Refuse a config that describes other weights than the model's. Builds it anew, without memory for its weights."""
    import torch
    from huggingface_hub.errors import StrictDataclassError

    try:
        with torch.device("meta"):
            other = type(model)(type(model.config).from_dict(model.config.to_dict()))
    except (StrictDataclassError, ArithmeticError, RuntimeError, TypeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"config_overrides {dict(overrides)} make a config that cannot be built: {reason}") from error
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    wanted = {name: tuple(weight.shape) for name, weight in other.named_parameters()}
    for name in sorted(shapes.keys() | wanted.keys()):
        if shapes.get(name) != wanted.get(name):
            raise UserError(
                f"config_overrides {dict(overrides)} do not fit the weights: {name} is {shapes.get(name)} in the "
                f"checkpoint and would be {wanted.get(name)}. Change keys that shape no weight only."
            )
