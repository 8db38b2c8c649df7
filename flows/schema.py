"""Which keys may stand where in a stage's part of a recipe: for `--set`, for near misses and for their docstrings."""

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel

from tasks.core.stage import Stage
from tasks.core.trl_keys import TrlBlock, trl_keys

AT_STEPS = "at_steps"  # the recipe's own key of stages that take a checkpoint; flows/at_steps.py


@dataclass(frozen=True)
class Schema:
    """The keys that may stand below a key. `is_open`: others may as well. `doc`: the field's docstring."""

    keys: Mapping[str, "Schema"] = field(default_factory=dict)
    is_open: bool = False
    doc: str = ""

    def below(self, path: Sequence[str | int]) -> "Schema":
        """The schema at `path`; an empty one where nothing is known."""
        schema = self
        for part in path:
            schema = schema.keys.get(str(part), Schema())
        return schema

    def allows(self, path: Sequence[str]) -> bool:
        """Whether a key may be set at `path`, which has at least one part."""
        if not path:
            return True
        return self.keys[path[0]].allows(path[1:]) if path[0] in self.keys else self.is_open

    def tails(self, path: tuple[str, ...], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        """Every full path that ends in `path`: set here, or in a block whose keys are known."""
        if self.allows(path):
            yield above + path
        for key, block in self.keys.items():
            if block.keys:
                yield from block.tails(path, (*above, key))

    def paths(self, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        """The full path of every known key."""
        for key, schema in self.keys.items():
            yield (*above, key)
            yield from schema.paths((*above, key))


def stage_schema(stage: Stage, resources: type[BaseModel]) -> Schema:
    """What may stand in a recipe under a stage of this kind."""
    own = {"stage": Schema(), "resources": model_schema(resources), **{name: Schema() for name in stage.inputs}}
    if "checkpoint" in stage.config.model_fields:
        own[AT_STEPS] = Schema(doc="all, or a list of steps: one evaluation of each checkpoint that the model keeps")
    return Schema(own | dict(model_schema(stage.config).keys))


def model_schema(model: type[BaseModel], doc: str = "") -> Schema:
    """The fields of a config class."""
    fields = {
        key: _field_schema(info.annotation, tuple(info.metadata), info.description or "")
        for key, info in model.model_fields.items()
    }
    return Schema(fields, doc=doc)


def _field_schema(annotation: Any, metadata: tuple[Any, ...], doc: str) -> Schema:
    for entry in metadata:
        if isinstance(entry, TrlBlock):
            keys = trl_keys(entry.config)
            return Schema({name: Schema(is_open="dict" in key.annotation) for name, key in keys.items()}, doc=doc)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _field_schema(arguments[0], arguments[1:], doc)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return model_schema(annotation, doc)
    if origin in (typing.Union, types.UnionType):  # of several config classes: the keys of all of them
        members = [_field_schema(member, (), doc) for member in arguments]
        keys_of_all = {key: schema for member in members for key, schema in member.keys.items()}
        return Schema(keys_of_all, any(member.is_open for member in members), doc)
    return Schema(is_open=annotation is Any or origin is dict or annotation is dict, doc=doc)
