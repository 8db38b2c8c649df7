"""`--set a.b=c`: finding the one key of the recipe that is meant, and setting it.

The key may be written in full (`stages.rl.grpo.max_steps`), from the stage on (`rl.grpo.max_steps`), as any tail
(`grpo.max_steps`), or as a stage and a tail (`rl.max_steps`). A reading that comes earlier in this list wins; two
readings of the same kind are refused, with both names. So `grpo.max_steps` is the key `max_steps` of a stage called
`grpo` where that kind of stage has one, and else that of the one block called `grpo`, whatever its stage is called.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flows.recipe_yaml import Document, Origin, read_value
from flows.schema import Schema
from tasks.core.errors import UserError
from tasks.core.spelling import nearest

ROOT_KEYS = ("name", "description", "source", "seed")


def apply_overrides(document: Document, overrides: Sequence[str], schemas: Mapping[str, Schema]) -> None:
    """Set each override in `document.values`, in order; mistakes are noted in the document.

    `schemas` holds the schema of every stage of the recipe whose kind is known.
    """
    for number, override in enumerate(overrides):
        origin = Origin(number - len(overrides), f"--set {override}")  # negative: before line 1
        try:
            key, equals, text = override.partition("=")
            if not equals or not all(key.strip().split(".")):
                raise UserError(f"{origin.label}: write --set KEY=VALUE, for instance --set grpo.max_steps=4.")
            value = read_value(text, origin.label)
            _set(document, _resolve(tuple(key.strip().split(".")), schemas), value, origin)
        except UserError as mistake:
            document.mistakes.append((origin, str(mistake).removeprefix(f"{origin.label}: ")))


def _resolve(parts: tuple[str, ...], schemas: Mapping[str, Schema]) -> tuple[str, ...]:
    """The full path that `parts` means. Raises UserError when none or several are meant."""
    if parts[0] == "stages" or (len(parts) == 1 and parts[0] in ROOT_KEYS):
        return parts
    dotted, first, rest = ".".join(parts), parts[0], parts[1:]
    if first in schemas and rest and schemas[first].allows(rest):
        return ("stages", *parts)
    found = [("stages", stage, *path) for stage, schema in schemas.items() for path in schema.tails(parts)]
    if not found and first in schemas and rest:
        found = [("stages", first, *path) for path in schemas[first].tails(rest)]
    names = [".".join(path) for path in dict.fromkeys(found)]
    if len(names) > 1:
        raise UserError(f"{dotted} could be {' or '.join(names)}: write one of these in full.")
    if not names:
        raise UserError(f"no stage of this recipe takes {dotted}{nearest(dotted, _spellings(schemas))}.")
    return found[0]


def _spellings(schemas: Mapping[str, Schema]) -> dict[str, None]:
    """Every way to write a key that `_resolve` may understand."""
    ways: dict[str, None] = dict.fromkeys(ROOT_KEYS)
    for stage, schema in schemas.items():
        for path in schema.paths():
            tails = [path[start:] for start in range(len(path))]
            ways |= dict.fromkeys(".".join(tail) for way in tails for tail in ((stage, *way), way))
    return ways


def _set(document: Document, path: tuple[str, ...], value: Any, origin: Origin) -> None:
    """Put `value` at `path`, with mappings made on the way, and forget the origins of what it replaces."""
    place = document.values
    for depth, part in enumerate(path[:-1], start=1):
        if place.get(part) is None:
            place[part] = {}
        place = place[part]
        if not isinstance(place, dict):
            name = ".".join(path[:depth])
            raise UserError(f"{name} is a {type(place).__name__}, not a mapping: set {name} as a whole.")
    place[path[-1]] = value
    for old in [known for known in document.origins if known[: len(path)] == path]:
        del document.origins[old]
    document.origins[path] = origin
