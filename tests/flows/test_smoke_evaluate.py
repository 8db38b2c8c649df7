"""Smoke runs of evaluations that need the hub or a server: questions and a model of ours take their place."""

from pathlib import Path

from flows.recipe import load_recipe
from flows.smoke import BASE, QUESTIONS, smoke

SERVED = """name: served
description: one line
seed: 0
stages:
  asked:
    stage: evaluate
    benchmark: gsm8k
    data_revision: 740312add88f781978c0658806c59bc2815b9866
    num_questions: 100
    num_samples: 8
    temperature: 0.6
    top_p: 0.95
    max_new_tokens: 4096
    engine: openai
    server: {base_url: "http://localhost:8000/v1", model: m}
"""


def test_smoke_served_evaluation_samples_a_tiny_model_on_our_questions(tmp_path: Path) -> None:
    path = tmp_path / "served.yaml"
    path.write_text(SERVED)
    small, changes = smoke(load_recipe(path), tmp_path / "store")
    stages = {spec.name: spec for spec in small.stages}
    asked = stages["asked"]
    assert asked.inputs == {"model": BASE, "problems": QUESTIONS}
    assert stages[BASE].stage.name == "fetch_model" and stages[QUESTIONS].stage.name == "prepare_data"
    config = asked.config
    assert config.engine == "transformers"
    assert (config.server, config.data_revision, config.num_questions) == (None, None, None)
    assert [line.partition(":")[0] for line in changes] == [QUESTIONS, BASE, "asked"]


def test_smoke_check_of_the_harness_keeps_its_models_and_every_evaluation(tmp_path: Path) -> None:
    recipe = load_recipe("r1-distill-check")
    small, _ = smoke(recipe, tmp_path / "store")
    assert [spec.name for spec in small.stages] == [QUESTIONS, *(spec.name for spec in recipe.stages)]
    evaluations = [spec for spec in small.stages if spec.stage.name == "evaluate"]
    assert len(evaluations) == 6
    assert {spec.inputs["problems"] for spec in evaluations} == {QUESTIONS}
    assert {spec.inputs["model"] for spec in evaluations} == {"qwen_1_5b", "qwen_7b"}
