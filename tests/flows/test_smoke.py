"""`--smoke`: what changes in a recipe, and what does not."""

import json

import pytest

from flows.plan import make_plan
from flows.recipe import load_recipe
from flows.smoke import TAUGHT, smoke
from flows.smoke_rows import NUM_ROWS, local_source, rows_of

SOURCE = {"kind": "hub", "dataset": "a/b", "split": "train", "revision": "0" * 40}


def read(source):
    return [json.loads(line) for line in open(source["path"], encoding="utf-8")]


def stage(recipe, name):
    return next(spec for spec in recipe.stages if spec.name == name)


def test_smoke_keeps_the_science_and_shrinks_the_sizes(tmp_path):
    real = load_recipe("countdown-smollm2")
    small, changes = smoke(real, tmp_path)
    assert [spec.name for spec in small.stages] == [spec.name for spec in real.stages]
    assert small.name == "countdown-smollm2-smoke" and small.description.startswith("SMOKE RUN, no result")
    before, after = stage(real, "grpo").config, stage(small, "grpo").config
    assert after.rewards == before.rewards and after.grpo["loss_type"] == before.grpo["loss_type"]
    assert after.grpo["max_steps"] == 2 and after.grpo["bf16"] is False
    assert stage(small, "base").config.source == "scratch" and stage(small, "grpo").resources.gpus == 0
    assert any(line.startswith("grpo: grpo.max_steps: 300 → 2") for line in changes)
    assert not {one.fingerprint for one in make_plan(real).stages} & {
        one.fingerprint for one in make_plan(small).stages
    }


def test_smoke_has_a_fetched_model_taught_before_it_writes(tmp_path):
    small, changes = smoke(load_recipe("orz-57k"), tmp_path)
    assert stage(small, "attempts").inputs["model"] == TAUGHT and stage(small, TAUGHT).inputs["model"] == "smoke-base"
    assert stage(small, "attempts").config.teacher.kind == "transformers"
    assert changes[0].startswith("smoke-base, smoke-rows, smoke-taught: added")


def test_smoke_with_an_override_changes_what_the_override_made(tmp_path):
    small, _ = smoke(load_recipe("quickstart", ["grpo.beta=0.01", "problems.num_train=8"]), tmp_path)
    assert stage(small, "grpo").config.grpo["beta"] == 0.01
    assert stage(small, "problems").config.num_train == 8


def test_smoke_shrinks_a_budget_of_thought_with_the_length(tmp_path):
    """Forty tokens in all: at least ten and at most twenty of thought, or the recipe's fewer."""
    small, changes = smoke(load_recipe("s1", ["forced_aime24.thinking.min_tokens=7"]), tmp_path)
    bounds = [stage(small, name).config.thinking for name in ("forced_math500", "forced_aime24")]
    assert [(one.min_tokens, one.max_tokens, one.max_waits) for one in bounds] == [(10, 20, 2), (7, 20, 2)]
    assert stage(small, "after_aime24").config.thinking is None
    assert any("thinking.max_tokens: 30720 → 20" in line for line in changes)


def test_rows_hold_the_columns_that_a_source_names(tmp_path):
    source = SOURCE | {"question_column": "prompt.0.value", "answer_column": "solution", "answer_after": "####"}
    rows = read(local_source(source, tmp_path))
    assert len(rows) == NUM_ROWS
    assert rows[0]["prompt"][0]["value"].startswith("Tom has ") and rows[0]["solution"] == "I subtract. #### 4"
    assert len({row["prompt"][0]["value"] for row in rows}) == NUM_ROWS


def test_rows_meet_the_conditions_and_one_more_fails_each():
    source = SOURCE | {"question_column": "q", "answer_column": "a"}
    source |= {"keep_where": {"valid": ["Yes"]}, "drop_where": {"kind": ["proof", "MCQ"], "a": ["notfound"]}}
    rows = rows_of(source)
    assert [row["valid"] for row in rows] == ["Yes"] * (NUM_ROWS + 2)
    assert [row["kind"] for row in rows[-2:]] == ["proof", "none of these"] and rows[-1]["a"] == "notfound"
    assert all(row["kind"] == "none of these" and row["a"] in ("4", "7") for row in rows[:NUM_ROWS])


def test_rows_of_two_data_sets_share_no_question():
    one, other = (SOURCE | {"question_column": "q", "answer_column": "a", "dataset": name} for name in ("a/b", "c/d"))
    assert not {row["q"] for row in rows_of(one)} & {row["q"] for row in rows_of(other)}


def test_rows_of_a_generator_stay_generated(tmp_path):
    source = {"kind": "countdown", "num_numbers": [3]}
    assert local_source(source, tmp_path) == source and not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["standard", "concatenated"])
def test_rows_are_named_by_their_content(tmp_path, layout):
    source = SOURCE | {"question_column": "q", "answer_column": "a", "layout": layout}
    first, second = local_source(source, tmp_path), local_source(source, tmp_path)
    assert (
        first == second and first["kind"] == "local" and "dataset" not in first and len(list(tmp_path.iterdir())) == 1
    )


def test_dry_run_in_small_prints_every_command(offline_r1):
    output = offline_r1("run", "quickstart", "--smoke", "--dry-run")
    assert output.count(" -m tasks.") == 9 and "grpo.max_steps: 140 → 2" in output
