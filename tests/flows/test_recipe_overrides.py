"""`--set`: which key is meant, what is set, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from flows.recipe import load_recipe
from tasks.core.errors import UserError


def read_back(recipe_path: Path, stage: str, *overrides: str) -> dict[str, Any]:
    recipe = load_recipe(recipe_path, overrides)
    return next(one for one in recipe.stages if one.name == stage).config.model_dump()


def refused(recipe_path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(recipe_path, overrides)
    return str(caught.value)


@pytest.mark.parametrize("key", ["stages.rl.grpo.max_steps", "rl.grpo.max_steps", "grpo.max_steps", "rl.max_steps"])
def test_set_stage_with_a_block_of_another_name_takes_every_spelling(toy_recipe: Path, key: str) -> None:
    assert read_back(toy_recipe, "rl", f"{key}=4")["grpo"] == {"learning_rate": 1e-6, "beta": 0, "max_steps": 4}


@pytest.mark.parametrize("key", ["stages.sft.sft.max_steps", "sft.sft.max_steps", "sft.max_steps"])
def test_set_stage_with_a_block_of_its_own_name_takes_every_spelling(toy_recipe: Path, key: str) -> None:
    assert read_back(toy_recipe, "sft", f"{key}=4")["sft"] == {"learning_rate": 5e-7, "max_steps": 4}


def test_set_key_of_the_stage_wins_over_the_block_of_that_name(toy_recipe: Path) -> None:
    toy_recipe.write_text(toy_recipe.read_text().replace("  rl:", "  grpo:"))
    assert read_back(toy_recipe, "grpo", "grpo.num_workers=3")["num_workers"] == 3
    assert read_back(toy_recipe, "grpo", "grpo.beta=0.04")["grpo"]["beta"] == 0.04


def test_set_block_that_two_stages_have_is_refused_with_both_names(toy_recipe: Path) -> None:
    text = toy_recipe.read_text()
    block = text[text.index("  rl:") : text.index("  report:")]
    toy_recipe.write_text(text.replace(block, block + block.replace("  rl:", "  rl2:")))
    assert refused(toy_recipe, "grpo.beta=1") == (
        "--set grpo.beta=1: grpo.beta could be stages.rl.grpo.beta or stages.rl2.grpo.beta: write one of these in full."
    )
    assert read_back(toy_recipe, "rl2", "rl2.beta=1")["grpo"]["beta"] == 1


def test_set_key_that_only_one_stage_knows_needs_no_stage(toy_recipe: Path) -> None:
    assert read_back(toy_recipe, "rl", "num_generations=8")["grpo"]["num_generations"] == 8
    assert read_back(toy_recipe, "problems", "num_train=5")["num_train"] == 5


def test_set_open_mapping_takes_any_key_by_its_name(toy_recipe: Path) -> None:
    config = read_back(toy_recipe, "rl", "rewards.length=0.1", "grpo.model_init_kwargs.dtype=bfloat16")
    assert config["rewards"] == {"countdown": 1.0, "format": 0.5, "length": 0.1}
    assert config["grpo"]["model_init_kwargs"] == {"dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("5e-7", 5e-7), ("2", 2), ("null", None), ("[a, b]", ["a", "b"]), ("adamw_8bit", "adamw_8bit"), ("'=a'", "=a")],
)
def test_set_value_is_read_as_yaml(toy_recipe: Path, text: str, value: Any) -> None:
    assert read_back(toy_recipe, "rl", f"rl.grpo.generation_kwargs.x={text}")["grpo"]["generation_kwargs"] == {
        "x": value
    }


def test_set_seed_reaches_every_stage_but_those_with_their_own(toy_recipe: Path) -> None:
    recipe = load_recipe(toy_recipe, ["problems.seed=3", "seed=11"])
    assert recipe.seed == 11
    assert [getattr(one.config, "seed", None) for one in recipe.stages] == [None, 3, 11, 11, None]


def test_set_input_and_resources_of_a_stage(toy_recipe: Path) -> None:
    recipe = load_recipe(toy_recipe, ["rl.model=base", "rl.resources.gpus=4", "sft.problems=problems"])
    sft, rl = recipe.stages[2:4]
    assert (rl.inputs["model"], rl.resources.gpus) == ("base", 4)
    assert sft.inputs == {"model": "base", "problems": "problems"}


def test_set_twice_the_later_wins_and_both_are_recorded(toy_recipe: Path) -> None:
    overrides = ["grpo.beta=1", "rl.grpo.beta=2"]
    assert read_back(toy_recipe, "rl", *overrides)["grpo"]["beta"] == 2
    assert load_recipe(toy_recipe, overrides).overrides == ("grpo.beta=1", "rl.grpo.beta=2")


def test_set_does_not_leak_through_an_alias(toy_recipe: Path) -> None:
    text = toy_recipe.read_text().replace("    sft:\n", "    sft: &block\n")
    toy_recipe.write_text(text.replace("  rl:", "  again: {stage: toy_sft, model: sft, sft: *block}\n  rl:"))
    assert read_back(toy_recipe, "again", "sft.sft.max_steps=1")["sft"]["max_steps"] == 800


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("grpo.max_steps", "--set grpo.max_steps: write --set KEY=VALUE"),
        ("=4", "--set =4: write --set KEY=VALUE"),
        ("grpo..beta=4", "--set grpo..beta=4: write --set KEY=VALUE"),
        (
            "grpo.max_step=4",
            "--set grpo.max_step=4: no stage of this recipe takes grpo.max_step; nearest: grpo.max_steps",
        ),
        ("rl.rewardz.length=1", "no stage of this recipe takes rl.rewardz.length; nearest: "),
        ("max_steps=4", "max_steps could be stages.sft.sft.max_steps or stages.rl.grpo.max_steps: write one of these"),
        ("grpo.output_dir=x", "stages.rl.grpo.output_dir cannot be set in a recipe: the artifact store decides"),
        (
            "stages.rl.grpo.max_step=4",
            "--set stages.rl.grpo.max_step=4: stages.rl.grpo.max_step is not a key of TRL's GRPO",
        ),
        (
            "grpo.max_steps=ten",
            "--set grpo.max_steps=ten: stages.rl.grpo.max_steps is 'ten', but TRL's GRPOConfig wants int",
        ),
        ("rl.model=report", "--set rl.model=report: stages.rl.model names report, which comes later"),
        ("seed=x", '--set seed=x: seed is "x", but should be a valid integer'),
        ("grpo.beta=[1", "--set grpo.beta=[1: column 3: invalid YAML"),
        ("grpo.beta={a: 1, a: 2}", "--set grpo.beta={a: 1, a: 2}: a is given twice"),
        ("stages.rl.grpo.beta.x=1", "--set stages.rl.grpo.beta.x=1: stages.rl.grpo.beta is a int, not a mapping"),
        ("stages.base=null", "--set stages.base=null: stages.base should be a mapping"),
        ("name=other", "--set name=other: name is 'other', but the file is called toy.yaml"),
    ],
)
def test_set_mistake_names_the_override_and_the_fix(toy_recipe: Path, override: str, expected: str) -> None:
    assert expected in refused(toy_recipe, override)


def test_set_mistakes_are_reported_with_those_of_the_file(toy_recipe: Path) -> None:
    toy_recipe.write_text(toy_recipe.read_text().replace("max_steps: 800", "max_stepz: 800"))
    message = refused(toy_recipe, "grpo.beta=x", "nothing=1")
    assert [line.split(": ")[0] for line in message.splitlines()] == [
        "--set grpo.beta=x",
        "--set nothing=1",
        "recipes/toy.yaml:12",
    ]
