"""What cannot run is refused before anything is started, with the keys to change."""

import pytest

from flows.launch import make_launcher
from flows.plan import make_plan
from flows.recipe import load_recipe
from slurm.launcher import SlurmLauncher
from slurm.local import LocalLauncher
from tasks.core.errors import UserError

SERVER = ("rl.grpo.use_vllm=true", "rl.grpo.vllm_mode=server")
GPUS = ("rl.resources.gpus=4", "rl.resources.vllm_gpus=1")
ADDRESS = "rl.grpo.vllm_server_base_url=http://gpu7:8000"


@pytest.fixture
def launcher(toy_recipe):
    """`launcher("rl.grpo.beta=0")`: the launcher for the toy recipe with these overrides."""

    def make(*overrides, launch="local", cluster=None):
        return make_launcher(launch, cluster, make_plan(load_recipe(toy_recipe, overrides)))

    return make


@pytest.mark.parametrize(
    "overrides",
    [(*SERVER, *GPUS), (*SERVER, ADDRESS), (*SERVER, "rl.grpo.vllm_server_port=8001"), ("rl.grpo.use_vllm=true",)],
)
def test_vllm_server_that_is_started_or_named_is_accepted(launcher, overrides):
    assert isinstance(launcher(*overrides), LocalLauncher)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (GPUS, "stage rl: resources.vllm_gpus is 1, but the training does not use a vLLM server: set grpo.use_vllm"),
        ((*GPUS, "rl.grpo.use_vllm=true"), "set grpo.use_vllm: true and grpo.vllm_mode: server"),
        ((*GPUS, SERVER[1]), "set grpo.use_vllm: true and grpo.vllm_mode: server"),
        (("sft.resources.gpus=2", "sft.resources.vllm_gpus=1"), "(in a train_grpo stage)"),
        (SERVER, "grpo.vllm_mode is server, but there is none: set resources.vllm_gpus"),
        ((*SERVER, GPUS[0], "rl.resources.vllm_gpus=4"), "which leaves none to train on: raise gpus"),
        ((*SERVER, *GPUS, ADDRESS), "but grpo.vllm_server_base_url names another one: leave one of them out"),
    ],
)
def test_vllm_server_that_nobody_starts_or_asks_is_refused(launcher, overrides, words):
    with pytest.raises(UserError) as refusal:
        launcher(*overrides)
    assert words in str(refusal.value)


SERVED = ("traces.resources.gpus=4", "traces.resources.vllm_gpus=4")
ENDPOINT = "traces.teacher.base_url=http://gpu7:8000/v1"


@pytest.fixture
def with_teacher(tmp_path):
    """`with_teacher("traces.resources.gpus=1")`: the launcher for a recipe with an openai teacher, overridden so."""

    def make(*overrides, model="    model: base\n", launch="local"):
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE + model)
        return make_launcher(launch, None, make_plan(load_recipe(path, overrides)))

    return make


RECIPE = """\
name: recipe
description: Traces of a model
seed: 0
stages:
  base:
    stage: fetch_model
    source: scratch
    scratch:
      {architecture: llama, hidden_size: 8, intermediate_size: 8, num_layers: 1,
       num_heads: 2, max_positions: 64, max_integer: 9}
  problems:
    stage: prepare_data
    source:
      {kind: countdown, num_numbers: [3], max_number: 10, max_target: 99, operators: "+-*", prompt: tokens}
    num_train: 4
    num_eval: 2
  traces:
    stage: generate_traces
    problems: problems
    num_traces: 1
    teacher: {kind: openai, model: m, temperature: 0.6, top_p: 0.95, max_new_tokens: 9}
"""


PPO = """\
  rl:
    stage: train_ppo
    model: base
    problems: problems
    rewards: {countdown: 1.0}
    ppo: {max_steps: 1}
    critic: {learning_rate: 1e-5, gamma: 1.0, gae_lambda: 1.0, value_clip: null, value_loss_weight: 1.0}
"""


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (GPUS, "set ppo.use_vllm: true and ppo.vllm_mode: server (in a train_ppo stage)"),
        (("rl.ppo.use_vllm=true", "rl.ppo.vllm_mode=server"), "ppo.vllm_mode is server, but there is none"),
    ],
)
def test_vllm_server_of_train_ppo_is_looked_for_in_its_own_block(with_teacher, overrides, words):
    with pytest.raises(UserError) as refusal:
        with_teacher(ENDPOINT, *overrides, model=PPO)
    assert words in str(refusal.value)


def test_teacher_that_has_a_server_or_an_address_is_accepted(with_teacher):
    with_teacher(*SERVED)
    with_teacher(*SERVED, "traces.resources.shares=8", launch="slurm")
    with_teacher(ENDPOINT, model="")


@pytest.mark.parametrize(
    ("overrides", "model", "words"),
    [
        ((), True, "teacher.base_url is left out, but there is no server: set resources.vllm_gpus"),
        ((*SERVED, ENDPOINT), True, "starts a vLLM server, but the teacher does not ask it"),
        (SERVED, False, "the server needs a checkpoint: set model to a fetch_model"),
        ((ENDPOINT,), True, "a teacher of kind openai has no use for it here: leave it out"),
        ((*SERVED, "traces.resources.vllm_own_node=true"), True, "vllm_own_node is for trainings"),
    ],
)
def test_teacher_without_what_it_needs_is_refused(with_teacher, overrides, model, words):
    with pytest.raises(UserError) as refusal:
        with_teacher(*overrides, **({} if model else {"model": ""}))
    assert words in str(refusal.value) and str(refusal.value).startswith("stage traces: ")


def test_several_nodes_in_a_container_are_refused(launcher, tmp_path):
    (tmp_path / "site.yaml").write_text("name: site\npython: [apptainer, exec, r1.sif, python]\n")
    (tmp_path / "plain.yaml").write_text("name: plain\npython: [/opt/r1/bin/python]\n")
    contained, plain = ({"launch": "slurm", "cluster": str(tmp_path / f"{name}.yaml")} for name in ("site", "plain"))
    assert isinstance(launcher("rl.resources.gpus=4", **contained), SlurmLauncher)
    assert isinstance(launcher("rl.resources.nodes=2", **plain), SlurmLauncher)
    with pytest.raises(UserError, match=r"stage rl wants several nodes .* `apptainer exec r1\.sif python`"):
        launcher("rl.resources.nodes=2", **contained)


def test_resources_that_the_kind_of_stage_cannot_use_are_refused(launcher):
    launcher("problems.resources.shares=4", launch="slurm")
    with pytest.raises(UserError, match=r"stage problems: resources\.nodes is 2, but toy_data runs as one process"):
        launcher("problems.resources.nodes=2", launch="slurm")
    with pytest.raises(UserError, match=r"stage sft: resources\.shares is 4, but toy_sft cannot be shared out"):
        launcher("sft.resources.shares=4", "sft.resources.gpus=0", launch="slurm")
