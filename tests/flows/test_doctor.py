"""`r1 doctor`, and the same checks before `r1 run` launches a GPU stage."""

import json
from pathlib import Path

import pytest

from flows.doctor import examine
from flows.plan import look_ahead, make_plan
from flows.preflight import Machine, check_stage, preflight
from flows.preflight_inputs import fetch_configs
from flows.recipe import list_recipes, load_recipe
from tasks.core.errors import UserError
from tasks.core.preflight.gpu import Gpu
from tasks.core.store import Store, code_hash, collect_provenance
from tests.tasks.hub_server import COMMIT, HubServer

A10 = Gpu("NVIDIA A10", 24.0, 8.6)
QWEN_7B = {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768,
}  # fmt: skip
STAGES = """\
  base: {stage: fetch_model, source: local, path: MODEL}
  problems:
    stage: prepare_data
    source: {kind: countdown, num_numbers: [3], max_number: 10, max_target: 99, operators: "+-*", prompt: tokens}
    num_train: 100
    num_eval: 4
  rl:
    stage: train_grpo
    model: base
    problems: problems
    rewards: {countdown: 1.0}
    grpo: {max_steps: 10, per_device_train_batch_size: 8, num_generations: 8, max_completion_length: 64}
    resources: {gpus: 1}
"""
SCRATCH = "source: scratch, scratch: {architecture: llama, hidden_size: 32, intermediate_size: 64, num_layers: 2, num_heads: 2, max_positions: 128, max_integer: 100}"  # noqa: E501


@pytest.fixture
def planned(tmp_path: Path, monkeypatch):
    """`planned("rl.grpo.beta=0", stages=...)`: (plan, store), with the config.json of a 7B model."""
    monkeypatch.setattr("tasks.core.preflight.disk.free_gb", lambda path: 1000.0)
    (tmp_path / "qwen").mkdir()
    (tmp_path / "qwen" / "config.json").write_text(json.dumps(QWEN_7B))

    def make(*overrides: str, stages: str = STAGES):
        path = tmp_path / "test.yaml"
        text = stages.replace("MODEL", str(tmp_path / "qwen"))
        path.write_text(f"name: test\ndescription: A test\nseed: 0\nstages:\n{text}")
        return make_plan(load_recipe(path, overrides)), Store(tmp_path / "store")

    return make


def refusals(plan, store, machine=None, name: str = "rl") -> str:
    return "\n".join(check_stage(plan, plan[name], store, machine or Machine(True, (A10,), 24.0)).of("refuse"))


def test_doctor_refuses_7b_on_24_gb_with_advice(planned):
    text = refusals(*planned())
    assert "weights, gradients, optimizer and other fixed parts alone need 113.5 GiB a GPU, which has 24" in text
    assert "What would fit: a `lora`" in text


def test_doctor_refuses_a_batch_that_splits_groups_and_a_short_context(planned):
    text = refusals(*planned("rl.grpo.per_device_train_batch_size=6", "rl.grpo.max_completion_length=40000"))
    assert "no whole number of groups of num_generations 8" in text and "per_device_train_batch_size: 8" in text
    assert "the model's context is 32768 tokens" in text


def test_doctor_refuses_missing_flash_attention_here_and_warns_for_a_cluster(planned):
    plan, store = planned("rl.grpo.model_init_kwargs={attn_implementation: flash_attention_2}")
    assert "pip install flash-attn" in refusals(plan, store)
    away = Machine(False, (), None)
    assert "flash-attn" not in refusals(plan, store, away)
    assert any("cluster's nodes may differ" in text for text in check_stage(plan, plan["rl"], store, away).of("warn"))


def test_preflight_lists_every_refusal_at_once(planned, monkeypatch):
    plan, store = planned("rl.grpo.per_device_train_batch_size=6", "rl.grpo.max_completion_length=40000")
    monkeypatch.setattr("flows.preflight.visible_gpus", lambda: [A10])
    with pytest.raises(UserError) as caught:
        preflight(plan, look_ahead(plan, store), store, "local")
    assert str(caught.value).count("stage rl: ") == 2 and "r1 doctor" in str(caught.value)


def test_preflight_leaves_stages_without_gpus_alone(planned):
    plan, store = planned("rl.grpo.per_device_train_batch_size=6", "rl.resources.gpus=0")
    assert preflight(plan, look_ahead(plan, store), store, "local") == []


def test_every_recipe_has_batches_and_lengths_that_work(tmp_path: Path):
    found = []
    for path in list_recipes():
        try:
            plan = make_plan(load_recipe(path))
        except UserError:  # a recipe that reads a file of the user's
            continue
        for stage in plan.stages:
            found += check_stage(plan, stage, Store(tmp_path), Machine(False, (), None)).of("refuse")
    assert [text for text in found if "of disk" not in text] == []


def test_run_is_refused_before_anything_is_launched(offline_r1, planned):
    plan, _ = planned("rl.grpo.num_generations=7")
    output = offline_r1("run", plan.recipe.path, "--set", "rl.grpo.num_generations=7", exit_code=2)
    assert "r1: this cannot work:" in output and "num_generations: 8" in output
    assert not list(offline_r1.store.glob("[a-z]*"))


def test_doctor_prints_the_memory_of_each_part_and_exits_with_2(offline_r1, planned):
    plan, _ = planned()
    output = offline_r1("doctor", plan.recipe.path, "--gpu-memory-gb", "24", exit_code=2)
    words = [" ".join(line.split()) for line in output.splitlines()]
    assert "weights 28.37 always 7.62 B parameters, one GPU" in words
    assert any(line.startswith("in all 13") for line in words)
    assert "a step: 1 new problems x 8 completions, 8 completions trained on by 1 process; 8 completions" in output
    assert "This cannot work as it is." in output
    assert "Traceback" not in offline_r1("doctor", plan.recipe.path, "--gpu-memory-gb", "0", exit_code=2)


def test_doctor_asks_the_hub_for_the_config_alone(planned, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub = STAGES.replace("source: local, path: MODEL", f"source: hub, model_id: me/big, revision: {COMMIT}")
    plan, store = planned(stages=hub)
    with HubServer() as server:
        server.serve("models/me/big", tmp_path / "qwen")
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        assert fetch_configs(plan, store) == []
        server.shutdown()
    assert "7.62 B" in str(check_stage(plan, plan["rl"], store, Machine(True, (A10,), 24.0)).estimate)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    other, _ = planned(stages=hub.replace("me/big", "me/other"))
    (problem,) = fetch_configs(other, store)
    assert problem.startswith("base: http://127.0.0.1:9 does not answer")


def build(plan, store: Store, name: str) -> None:
    """What the flow's builder does, in this process."""
    stage = plan[name]
    kind = stage.spec.stage
    with store.lock(kind.name, stage.fingerprint) as lock:
        kind.run(stage.spec.config, out=store.staging(kind.name, stage.fingerprint))
        store.publish(
            lock, identity=stage.identity, code=code_hash(kind), provenance=collect_provenance(),
            started_at="2024-01-01T00:00:00+00:00", wall_s=1.0,
        )  # fmt: skip


def test_doctor_probes_once_model_and_problems_are_built(planned, capfd):
    few = ("rl.grpo.max_completion_length=8", "rl.grpo.num_generations=2", "rl.grpo.per_device_train_batch_size=2")
    plan, store = planned(*few, stages=STAGES.replace("source: local, path: MODEL", SCRATCH))
    with pytest.raises(UserError, match="found no stage whose model and problems are both in the store"):
        examine(plan, store, "local", None, with_probe=True)
    build(plan, store, "base")
    build(plan, store, "problems")
    assert not examine(plan, store, "local", None, with_probe=True)
    output = capfd.readouterr().out
    assert "rl: sampling 8 problems x 2" in output and "<|assistant|>" in output
    assert "will not learn: every reward is 0" in output
    assert "accuracy (not in the recipe)" in output
