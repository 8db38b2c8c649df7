"""Recipes: one YAML file is one reproducible run. The only place that reads a recipe.

`load_recipe` gives typed stages in order, or one UserError that lists what is wrong, each with file and line.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from flows import registry
from flows.accelerate import with_launch_config
from flows.at_steps import at_steps
from flows.overrides import apply_overrides
from flows.recipe_checks import checked, checked_inputs
from flows.recipe_yaml import Document, read_document, shown
from flows.schema import AT_STEPS, model_schema, stage_schema
from flows.stage_spec import StageSpec
from flows.yaml_files import find_yaml, list_yaml
from slurm.resources import Resources
from tasks.core.errors import UserError
from tasks.core.spelling import nearest
from tasks.core.stage import Stage

RECIPES = Path(__file__).parent.parent / "recipes"
NO_RECIPE = "targets.yaml"  # lies among them; flows/targets.py reads it
RECIPE_NAME = re.compile(r"[^\W_A-Z](?:[^\W_A-Z]|[.-]){0,63}")  # in any script; it begins the names of runs
STAGE_NAME = re.compile(r"[a-z][a-z0-9_-]*")  # no dot: it separates the parts of a --set


@dataclass(frozen=True)
class Recipe:
    """A recipe that is known to be valid. `text` is the file as read, `overrides` the `--set` values verbatim.

    `in_small`: what `--smoke` has made of it.
    """

    name: str
    description: str
    source: str | None
    path: Path
    text: str
    seed: int
    stages: tuple[StageSpec, ...]
    overrides: tuple[str, ...]
    in_small: bool = False


class _Header(BaseModel):
    """The top level of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    name: str
    """The name of the file without .yaml."""
    description: Annotated[str, Field(pattern=r"^[^\n]*\S[^\n]*$")]
    """One line that says what the run shows."""
    source: str | None = None
    """The paper, model card or post that the numbers come from."""
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """A whole number; it goes into every stage that takes a seed and sets none itself."""
    stages: Annotated[dict[str, Any], Field(min_length=1)]
    """An ordered mapping from a name to a stage."""


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe at `path`, or recipes/<path>.yaml of the project, with `overrides` ("grpo.max_steps=4") set.

    Raises UserError that lists up to five mistakes.
    """
    found = find_recipe(path)
    document = read_document(found)
    schemas = {name: stage_schema(stage, Resources) for name, stage in _known_stages(document.values).items()}
    apply_overrides(document, overrides, schemas)
    header = checked(document, (), _Header, document.values, model_schema(_Header), "a recipe")
    _check_name(document, found)
    stages = document.values.get("stages")
    specs = _read_stages(document, stages) if isinstance(stages, dict) else []
    document.raise_mistakes()
    assert header is not None
    return Recipe(
        name=header.name,
        description=header.description,
        source=header.source,
        path=found,
        text=document.text,
        seed=header.seed,
        stages=tuple(specs),
        overrides=tuple(overrides),
    )


def list_recipes() -> list[Path]:
    """The recipes of the project, by name."""
    return [path for path in list_yaml(RECIPES) if path.name != NO_RECIPE]


def find_recipe(path: str | Path) -> Path:
    """The file that `path` means. Raises UserError that lists the recipes there are."""
    return find_yaml(path, RECIPES, f"recipe {shown(Path(path))}", "The recipes are:")


def _known_stages(values: Mapping[str, Any]) -> dict[str, Stage]:
    """The stages whose kind can be told, before anything is checked."""
    stages = values.get("stages")
    raw = (
        {name: spec.get("stage") for name, spec in stages.items() if isinstance(spec, dict)}
        if isinstance(stages, dict)
        else {}
    )
    return {name: registry.load_stage(kind) for name, kind in raw.items() if kind in registry.STAGES}


def _check_name(document: Document, path: Path) -> None:
    name = document.values.get("name")
    if not RECIPE_NAME.fullmatch(path.stem):
        stem = path.stem.encode("utf-8", "replace").decode()
        document.mistake(("name",), f"cannot be {stem!r}: name the file with small letters, digits, '.' and '-' only")
    elif isinstance(name, str) and name != path.stem:
        document.mistake(("name",), f"is {name!r}, but the file is called {path.name}: make them equal")


def _read_stages(document: Document, raw_stages: Mapping[str, Any]) -> list[StageSpec]:
    """Check every stage; the ones without a mistake are returned."""
    names = tuple(raw_stages)
    earlier: dict[str, str] = {}
    specs: list[StageSpec] = []
    for index, name in enumerate(names):
        raw = raw_stages[name]
        if not STAGE_NAME.fullmatch(name):
            document.mistake(("stages", name), "is no name for a stage: use a-z, 0-9, '_' and '-', a letter first")
        kind = _stage_kind(document, name, raw)
        read: list[StageSpec] = []
        if kind:
            stage = registry.load_stage(kind)
            inputs = checked_inputs(document, ("stages", name), stage, raw, earlier, names[index:])
            read = _read_stage(document, name, stage, inputs, raw)
            if AT_STEPS in raw and read:
                read = at_steps(document, read[0], raw[AT_STEPS], specs)
        for spec in read:
            if spec.name != name and spec.name in (*names, *earlier):
                document.mistake(("stages", name, AT_STEPS), f"makes a stage {spec.name}, and there is one: rename it")
        earlier |= dict.fromkeys([spec.name for spec in read] or [name], kind)
        specs += read
    return specs


def _stage_kind(document: Document, name: str, raw: Any) -> str:
    """The kind of the stage, or an empty string after a mistake."""
    path = ("stages", name)
    if not isinstance(raw, dict):
        document.mistake(
            path, f"should be a mapping that begins with `stage: KIND`; kinds: {', '.join(registry.STAGES)}"
        )
        return ""
    kind = raw.get("stage")
    if kind in registry.STAGES:
        return str(kind)
    kinds = ", ".join(registry.STAGES)
    if kind is None:
        document.mistake((*path, "stage"), f"is missing: say what kind of stage this is, one of {kinds}")
    else:
        document.mistake(
            (*path, "stage"),
            f"is {kind!r}, which is no kind of stage{nearest(str(kind), registry.STAGES)}; kinds: {kinds}",
        )
    return ""


def _read_stage(
    document: Document, name: str, stage: Stage, inputs: Mapping[str, str | tuple[str, ...]], raw: Mapping[str, Any]
) -> list[StageSpec]:
    """The stage as a list of one, or an empty list after a mistake."""
    path = ("stages", name)
    schema = stage_schema(stage, Resources)
    ours = {"stage", "resources", *stage.inputs, *([AT_STEPS] if AT_STEPS in schema.keys else [])}
    values = {key: value for key, value in raw.items() if key not in ours}
    if "seed" in stage.config.model_fields and type(document.values.get("seed")) is int:
        values.setdefault("seed", document.values["seed"])
    config = checked(document, path, stage.config, values, schema, f"stage {stage.name}")
    asked = raw.get("resources") or {}
    if not isinstance(asked, dict):
        document.mistake((*path, "resources"), 'should be a mapping such as {gpus: 1, time: "02:00:00"}')
        return []
    resources = checked(document, (*path, "resources"), Resources, asked, schema.below(["resources"]), "resources")
    if config is None or resources is None:
        return []
    for key, text in (stage.check_inputs(config, inputs) if stage.check_inputs else {}).items():
        document.mistake((*path, key), text)
    try:
        resources = with_launch_config(stage, config, resources)
    except UserError as error:
        document.mistake((*path, "resources", "accelerate"), str(error))
        return []
    return [StageSpec(name, stage, config, dict(inputs), resources)]
