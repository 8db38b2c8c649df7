"""A recipe's `grpo:` and `sft:` blocks: every key of TRL's configs, type-checked, none misspelt.

What TRL has comes from `trl_source`; which keys are operational and which the project sets itself from `trl_policy`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, ValidationError, core_schema

from tasks.core.spelling import nearest, yaml_hint
from tasks.core.trackers import tracker_mistake
from tasks.core.trl_policy import CHECKPOINT_KEYS, MANAGED_KEYS, OPERATIONAL_KEYS, REMOVED_KEYS
from tasks.core.trl_source import CONFIG_FILES, TrlKey, trl_keys

__all__ = ["MANAGED_KEYS", "OPERATIONAL_KEYS", "TrlBlock", "TrlKey", "trl_block", "trl_identity", "trl_keys"]


def trl_identity(config: str, block: Mapping[str, Any], *, keeps_best: bool = False) -> dict[str, Any]:
    """The part of a recipe's TRL block that decides the numbers, for `StageConfig.identity`.

    Operational keys are left out, and `1` reads as `1.0` where TRL wants a float, so that both spellings have one
    fingerprint. With `load_best_model_at_end`, and where the stage `keeps_best`, the checkpoints are what is chosen
    from, so their keys stay.
    """
    is_chosen_from = keeps_best or block.get("load_best_model_at_end")
    left_out = OPERATIONAL_KEYS - CHECKPOINT_KEYS if is_chosen_from else OPERATIONAL_KEYS
    return {key: _as_float(config, key, value) for key, value in block.items() if key not in left_out}


def _as_float(config: str, key: str, value: Any) -> Any:
    is_float = trl_keys(config)[key].annotation in ("float", "float | None")
    return float(value) if is_float and isinstance(value, int) else value


@dataclass(frozen=True)
class TrlBlock:
    """Annotation of a config field that holds keys of a TRL config: `grpo: Annotated[dict[str, Any], trl_block(...)]`.

    Each mistake becomes an error of its own, located at its key, of type "r1_key"; its text completes the sentence
    "<dotted key> ...".
    """

    config: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def check(self, block: dict[str, Any]) -> dict[str, Any]:
        """Return `block` unchanged, or raise a ValidationError that holds every mistake."""
        found = {key: mistake for key, value in block.items() if (mistake := self._mistake(key, value))}
        if block.get("eval_strategy") == "steps" and block.get("eval_steps") is None:
            found["eval_steps"] = (
                "is missing: with eval_strategy: steps TRL would take logging_steps, which is not part of the identity"
            )
        if found:
            raise ValidationError.from_exception_data(
                f"keys of TRL's {self.config}",
                [
                    InitErrorDetails(
                        type=PydanticCustomError("r1_key", "{text}", {"text": text}), loc=(key,), input=block.get(key)
                    )
                    for key, text in found.items()
                ],
            )
        return block

    def _mistake(self, key: str, value: Any) -> str | None:
        keys = trl_keys(self.config)
        if key in MANAGED_KEYS:
            return f"cannot be set in a recipe: {MANAGED_KEYS[key]}"
        if key not in keys:
            if key in REMOVED_KEYS:
                return f"is no longer a key of TRL's {self.config}: {REMOVED_KEYS[key]}"
            return f"is not a key of TRL's {self.config}{nearest(key, keys)}"
        if not keys[key].accepts(value):
            hint = yaml_hint(value) if isinstance(value, str) or keys[key].annotation.startswith("str") else ""
            return f"is {value!r}, but TRL's {self.config} wants {keys[key].wanted}{hint}"
        if key == "report_to":
            return tracker_mistake(value)
        if isinstance(value, dict) and value.get("trust_remote_code"):
            return f"holds trust_remote_code: {MANAGED_KEYS['trust_remote_code']}"
        return None


def trl_block(config: str) -> TrlBlock:
    """The annotation for a field that takes the keys of TRL's `config`, "GRPOConfig" or "SFTConfig"."""
    assert config in CONFIG_FILES, config
    return TrlBlock(config)
