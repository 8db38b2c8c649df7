"""`--smoke`: the same recipe with a tiny model and a handful of rows, through the same code, on a laptop.

A recipe is changed after it was read and checked, so what runs is what the recipe says in all but size; the changed
stages have fingerprints of their own, and the run is called `<recipe>-smoke`. Nothing that comes out is a result.

A model that writes traces has to be right now and then, or nothing is left to learn from. So before a model that is
fetched writes any, a stage `smoke-taught` fine-tunes the tiny one for seconds on `smoke-rows`. An evaluation of a
benchmark of lighteval's own asks `smoke-questions`, one of a server samples `smoke-base`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows import registry
from flows.recipe import Recipe
from flows.smoke_stages import NUM_EVAL, NUM_TRAIN, RULES, TINY, few_problems, few_traces, short_sft, tiny_model
from flows.stage_spec import StageSpec
from slurm.resources import Resources

BASE, ROWS, TAUGHT, QUESTIONS = "smoke-base", "smoke-rows", "smoke-taught", "smoke-questions"
TEACHING_STEPS = 120
"""With 40 a sample at temperature 1 is hardly ever right."""
WRITERS = {"generate_traces": "model", "verify_traces": "judge_model"}
"""The stages in which a model writes text, and their input that names it."""

Values = dict[str, Any]


def smoke(recipe: Recipe, store: Path) -> tuple[Recipe, list[str]]:
    """The recipe in small, and a line for each stage that was changed. Rows are written below `store`."""
    rows = store / "smoke"
    fetched = {spec.name for spec in recipe.stages if spec.stage.name == "fetch_model"}
    reward_models = {spec.inputs["reward_model"] for spec in recipe.stages if "reward_model" in spec.inputs}
    weak = _weak_attempts(recipe)
    stages, changes = [], []
    for spec in recipe.stages:
        before = spec.config.model_dump(mode="json", exclude_unset=True)
        values = _in_small(spec, before, rows, "reward" if spec.name in reward_models else None)
        inputs = dict(spec.inputs) if spec.name in weak else _written_by_the_taught(spec, values, fetched)
        if spec.stage.name == "evaluate":
            inputs = {**{"model": BASE, "problems": QUESTIONS}, **inputs}
        changed = _changes(before, values) + [
            f"{key}: {spec.inputs.get(key)} → {name}" for key, name in inputs.items() if spec.inputs.get(key) != name
        ]
        changes += [f"{spec.name}: {', '.join(changed)}"] if changed else []
        stages.append(_spec(spec.name, spec.stage.name, values, inputs))
    used = {name for spec in stages for name in spec.inputs.values()}
    if TAUGHT in used:
        stages = [*_teaching(rows), *stages]
        changes.insert(0, f"{BASE}, {ROWS}, {TAUGHT}: added, a tiny model that is right now and then, to write traces")
    elif BASE in used:
        stages = [_base(), *stages]
        changes.insert(0, f"{BASE}: added, a tiny model in the place of a server's")
    if QUESTIONS in used:
        stages = [_questions(rows), *stages]
        changes.insert(0, f"{QUESTIONS}: added, a handful of questions in the place of lighteval's")
    small = replace(
        recipe,
        name=f"{recipe.name}-smoke",
        description=f"SMOKE RUN, no result: a tiny model and a handful of rows. {recipe.description}",
        stages=tuple(stages),
        overrides=(*recipe.overrides, "--smoke"),
        in_small=True,
    )
    return small, changes


def _in_small(spec: StageSpec, values: Values, rows: Path, head: str | None) -> Values:
    match spec.stage.name:
        case "fetch_model":
            return tiny_model(values, head)
        case "prepare_data":
            return few_problems(values, rows)
        case "prepare_traces":
            return few_traces(values, rows)
        case kind:
            return RULES[kind](values)


def _weak_attempts(recipe: Recipe) -> set[str]:
    """The stages whose traces tell what is too easy: an untaught model's are all wrong, so nothing is."""
    inputs = {spec.name: spec.inputs for spec in recipe.stages}
    judged = [name for one in inputs.values() for key, name in one.items() if key.startswith("weak_verdicts")]
    return {str(inputs[str(name)]["traces"]) for name in judged}


def _written_by_the_taught(spec: StageSpec, values: Values, fetched: set[str]) -> dict[str, str | tuple[str, ...]]:
    """The inputs, with the taught model where a fetched one, or an endpoint's, would write."""
    inputs = dict(spec.inputs)
    key = WRITERS.get(spec.stage.name)
    teacher = values.get("teacher") or (values.get("judge") or {}).get("teacher")
    if key and teacher and teacher["kind"] != "solver" and (key not in inputs or inputs[key] in fetched):
        inputs[key] = TAUGHT
    return inputs


def _teaching(rows: Path) -> list[StageSpec]:
    columns = {"kind": "hub", "dataset": "smoke/traces", "split": "train", "messages_column": "messages"}
    traces = few_traces({"source": columns, "num_traces": NUM_TRAIN, "seed": 0}, rows)
    return [
        _base(),
        _spec(ROWS, "prepare_traces", traces, {}),
        _spec(TAUGHT, "train_sft", short_sft({"sft": {}, "seed": 0}, TEACHING_STEPS), {"model": BASE, "traces": ROWS}),
    ]


def _base() -> StageSpec:
    return _spec(BASE, "fetch_model", {"source": "scratch", "scratch": TINY, "seed": 0}, {})


def _questions(rows: Path) -> StageSpec:
    columns = {"kind": "hub", "dataset": "smoke/questions", "split": "test"}
    source = columns | {"question_column": "question", "answer_column": "answer"}
    values = few_problems({"source": source, "num_train": 0, "num_eval": NUM_EVAL, "seed": 0}, rows)
    return _spec(QUESTIONS, "prepare_data", values, {})


def _spec(name: str, kind: str, values: Values, inputs: Mapping[str, str | tuple[str, ...]]) -> StageSpec:
    import json

    stage = registry.load_stage(kind)
    return StageSpec(name, stage, stage.config.model_validate_json(json.dumps(values)), dict(inputs), Resources())


def _changes(before: Values, after: Values, path: str = "") -> list[str]:
    """Every key that differs, as `key: old → new`, dotted; a key that is gone as `key: old → (left out)`."""
    found = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _changes(old, new, f"{path}{key}.")
        elif old != new:
            found.append(f"{path}{key}: {_short(old)} → {'(left out)' if key not in after else _short(new)}")
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:18]}…{text[-18:]}"
