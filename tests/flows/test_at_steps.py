"""`at_steps`: one evaluation in the recipe, one stage for each checkpoint that the training keeps."""

import pytest

from flows.recipe import load_recipe
from tasks.core.errors import UserError

SETTINGS = ["curve.num_samples=2"]


@pytest.mark.parametrize(("wanted", "steps"), [("all", [100, 200, 300, 400]), ("[400, 100]", [400, 100])])
def test_at_steps_makes_a_stage_of_each_step(wanted, steps):
    recipe = load_recipe("mini-r1", [*SETTINGS, f"curve.at_steps={wanted}"])
    curve = [spec for spec in recipe.stages if spec.name.startswith("curve")]
    assert [(spec.name, spec.config.checkpoint) for spec in curve] == [(f"curve-{step}", step) for step in steps]
    assert all(spec.config.num_samples == 2 and spec.inputs["model"] == "grpo" for spec in curve)
    assert set(recipe.stages[-1].inputs["artifacts"]) >= {spec.name for spec in curve}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["curve.at_steps=[150]"], "has 150, but the training keeps multiples of 100 up to 450"),
        (["curve.at_steps=[500]"], "has 500, but the training keeps multiples of 100 up to 450"),
        (["curve.at_steps=[100, 100]"], "has 100 twice"),
        (["curve.at_steps=[]"], "should be all, or a list of steps such as [100, 200]"),
        (["curve.at_steps=every"], "should be all, or a list of steps"),
        (["curve.at_steps=[true]"], "should be all, or a list of steps"),
        (["curve.at_steps=[1.5]"], "should be all, or a list of steps"),
        (["curve.checkpoint=100"], "and checkpoint are both given"),
        (["grpo.keep_checkpoints_every=null"], "grpo keeps none: set keep_checkpoints_every there"),
        (["grpo.keep_checkpoints_every=500"], "the training has 450 steps and keeps its first checkpoint at 500"),
        (["curve.model=base"], "is for a `model` that is trained in this recipe"),
    ],
)
def test_at_steps_that_cannot_be_is_refused(settings, words):
    with pytest.raises(UserError) as caught:
        load_recipe("mini-r1", settings)
    assert "stages.curve.at_steps" in str(caught.value) and words in str(caught.value)


def test_at_steps_that_makes_the_name_of_another_stage_is_refused(tmp_path):
    text = load_recipe("mini-r1").text.replace("name: mini-r1", "name: own").replace("  after:\n", "  curve-100:\n")
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="makes a stage curve-100, and there is one"):
        load_recipe(path)


def test_at_steps_of_another_kind_of_stage_is_unknown():
    with pytest.raises(UserError, match="at_steps"):
        load_recipe("mini-r1", ["grpo.at_steps=all"])
