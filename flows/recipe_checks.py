"""From pydantic's errors to sentences that name the dotted key, the line, what is allowed and the fix."""

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flows.recipe_yaml import Document, KeyPath
from flows.schema import Schema
from tasks.core.errors import UserError
from tasks.core.spelling import nearest, yaml_hint
from tasks.core.stage import Input, Stage

Model = TypeVar("Model", bound=BaseModel)


def checked(
    document: Document, path: KeyPath, model: type[Model], raw: Mapping[str, Any], schema: Schema, owner: str
) -> Model | None:
    """Build `model` from `raw`, which stands at `path`; every mistake goes to the document, and then None is returned.

    Validated as JSON, as the stage's own process will: a YAML list may become a tuple, but 1.0 is no int.
    `owner` ends the sentence "... is not a key of".
    """
    try:
        return model.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        for place, texts in _sentences(error, raw, schema, owner).items():
            document.mistake(path + place, " or ".join(texts))
    except UserError as error:
        document.mistake(path, f"is wrong: {error}")
    return None


def _sentences(error: ValidationError, raw: Any, schema: Schema, owner: str) -> dict[KeyPath, list[str]]:
    """The texts by key. The members of a union each complain about the same key: their texts are joined by "or"."""
    sentences: dict[KeyPath, list[str]] = {}
    for one in error.errors(include_url=False):
        place = _place(one, raw)
        texts = sentences.setdefault(place, [])
        text = _sentence(one, place, schema, owner)
        shared = text.split(", but ")[0] + ", but "
        text = text.removeprefix(shared) if texts and texts[0].startswith(shared) else text
        if text not in texts:
            texts.append(text)
    return sentences


def _place(error: ErrorDetails, raw: Any) -> KeyPath:
    """The error's location without what pydantic puts in for the members of a union."""
    place: KeyPath = ()
    for index, part in enumerate(error["loc"]):
        if isinstance(raw, dict) and part in raw:
            raw, place = raw[part], (*place, part)
        elif isinstance(raw, list) and isinstance(part, int):
            raw, place = raw[part], (*place, part)
        elif index == len(error["loc"]) - 1 and error["type"] in ("missing", "r1_key"):
            place = (*place, part)
    return place


def _sentence(error: ErrorDetails, place: KeyPath, schema: Schema, owner: str) -> str:
    doc = " ".join(schema.below(place).doc.split())
    match error["type"]:
        case "string_pattern_mismatch" if doc:
            return f"is {_shown(error['input'])}; wanted: {doc}"
        case "r1_key":
            return error["msg"]
        case "missing":
            return f"is missing: {doc}" if doc else "is missing."
        case "extra_forbidden":
            keys = schema.below(place[:-1]).keys
            near = nearest(str(place[-1]), keys)
            return f"is not a key of {owner}{near or '; allowed: ' + ', '.join(keys)}"
        case "union_tag_invalid" | "union_tag_not_found":
            context = error["ctx"]
            allowed = f": one of {context['expected_tags']}" if "expected_tags" in context else ""
            return f"is {_shown(error['input'])}, but should have a valid {context['discriminator']}{allowed}"
        case "value_error" | "assertion_error":
            return "is wrong: " + error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    should = re.sub(r"^[A-Z]\w+ (?=should)", "", error["msg"])
    should = should.replace("an object", "a mapping").replace("a valid array", "a list")  # pydantic speaks JSON
    hint = yaml_hint(error["input"]) if error["type"] in ("int_type", "float_type", "bool_type", "string_type") else ""
    return f"is {_shown(error['input'])}, but {should}{hint}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:60]}…"


def checked_inputs(
    document: Document,
    path: KeyPath,
    stage: Stage,
    raw: Mapping[str, Any],
    earlier: Mapping[str, str],
    later: tuple[str, ...],
) -> dict[str, str | tuple[str, ...]]:
    """The stage's inputs. `earlier` maps the stages before it to their kinds; `later` are the rest, itself first."""
    inputs: dict[str, str | tuple[str, ...]] = {}
    for name, wanted in stage.inputs.items():
        possible = [other for other, kind in earlier.items() if not wanted.accepts or kind in wanted.accepts]
        given = raw.get(name)
        if given is None and wanted.every:
            inputs[name] = tuple(possible)
        elif given is None:
            if not wanted.optional:
                document.mistake((*path, name), f"is missing: it takes {_wanted(wanted, possible)}")
        else:
            names = given if wanted.every and isinstance(given, list) else [given]
            for one in names:
                if text := _input_mistake(one, wanted, possible, earlier, later):
                    document.mistake((*path, name), text)
            inputs[name] = tuple(names) if wanted.every else given
    return inputs


def _input_mistake(
    given: Any, wanted: Input, possible: list[str], earlier: Mapping[str, str], later: tuple[str, ...]
) -> str | None:
    fix = f"it takes {_wanted(wanted, possible)}"
    if not isinstance(given, str):
        return f"is {_shown(given)}, but should be one name: {fix}"
    if given == later[0]:
        return f"names the stage itself: {fix}"
    if given in later:
        return f"names {given}, which comes later: move it up, or name an earlier one; {fix}"
    if given not in earlier:
        return f"is {_shown(given)}, which is no stage of this recipe{nearest(given, possible)}; {fix}"
    if given not in possible and earlier[given]:  # a stage of unknown kind has its own error
        return f"names {given}, a stage of kind {earlier[given]}: {fix}"
    return None


def _wanted(wanted: Input, possible: list[str]) -> str:
    kinds = f" of kind {' or '.join(wanted.accepts)}" if wanted.accepts else ""
    return f"the name of an earlier stage{kinds} (here: {', '.join(possible) or 'there is none'})"
