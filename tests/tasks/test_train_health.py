"""Trainings that go wrong, for real: how they end, what they leave; and what a healthy one says of itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core.files import read_json, write_json
from tasks.core.main import run_in
from tasks.core.stage import Stage
from tasks.train_grpo import STAGE as GRPO_STAGE
from tasks.train_grpo import TrainGrpoConfig
from tasks.train_sft import STAGE as SFT_STAGE
from tests.tasks.training_inputs import folder, history_of, make_base, make_problems, make_traces, parsed

COMMON: dict[str, Any] = {"bf16": False, "gradient_checkpointing": False, "logging_steps": 1}
SFT = COMMON | {"max_steps": 6, "per_device_train_batch_size": 4, "max_length": 128, "save_steps": 1}
GRPO = COMMON | {
    "max_steps": 7, "per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 12,
    "learning_rate": 1e-2, "save_steps": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("health")
    problems = make_problems(root / "problems")
    traces = make_traces(root / "traces", problems)
    return {"model": make_base(root / "base"), "problems": problems, "traces": traces}


def run_stage(stage: Stage, config: dict[str, Any], inputs: dict[str, Path], out: Path) -> dict[str, Any]:
    """Run the stage as its process does; returns what status.json says."""
    paths = {name: str(inputs[name]) for name in stage.inputs if name in inputs}
    write_json(folder(out) / "config.json", {"stage": stage.name, "config": config, "inputs": paths})
    run_in(stage, out)
    return read_json(out / "status.json")


def test_sft_whose_gradient_is_nan_ends_before_the_step_and_names_the_checkpoint(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    status = run_stage(
        SFT_STAGE, {"sft": SFT | {"learning_rate": 1e37, "warmup_steps": 0}, "seed": 0}, inputs, tmp_path
    )
    assert (status["state"], status["exit_code"], status["cause"]) == ("failed", 2, "unhealthy")
    error = status["error"]
    assert error.startswith("unhealthy: the gradient of step 2 is NaN. ") and "lower learning_rate" in error
    assert f"the last one from before is {tmp_path / 'work' / 'checkpoints' / 'checkpoint-1'}." in error
    assert [row["step"] for row in history_of(tmp_path)] == [1] and not (tmp_path / "model").exists()


def test_grpo_without_any_reward_ends_after_the_steps_that_the_recipe_gives_it(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    health = {"max_zero_reward_steps": 5}
    status = run_stage(
        GRPO_STAGE, {"grpo": GRPO, "rewards": {"countdown": 1.0}, "seed": 0, "health": health}, inputs, tmp_path
    )
    assert status["cause"] == "unhealthy" and len(history_of(tmp_path)) == 5
    assert "every reward was 0 for 5 steps, to step 5." in status["error"]
    assert "Checkpoints: steps 2, 4; the oldest one, already after the first sign" in status["error"]


def test_grpo_keeps_the_best_checkpoint_and_publishes_no_optimizer_state(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rewards = {"soft_overlong_punishment": {"weight": 1.0, "max_completion_len": 12, "soft_punish_cache": 6}}
    config = {"grpo": GRPO, "rewards": rewards, "seed": 0, "keep_best": "completions/mean_length"}
    assert run_stage(GRPO_STAGE, config, inputs, tmp_path)["state"] == "done"
    lengths = [row["completions/mean_length"] for row in history_of(tmp_path)]
    means = {
        step: sum(part) / len(part)
        for step, part in ((2, lengths[:2]), (4, lengths[2:4]), (6, lengths[4:6]), (7, lengths[6:]))
    }
    step = max(means, key=lambda one: means[one])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["best"] == {"metric": "completions/mean_length", "value": pytest.approx(means[step]), "step": step}
    assert step != 7, "the last step is the best, so this tests nothing"
    best = AutoModelForCausalLM.from_pretrained(tmp_path / "best").state_dict()
    last = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    assert AutoTokenizer.from_pretrained(tmp_path / "best").chat_template
    assert any((best[name] != last[name]).any() for name in best)
    assert metrics["health"] == {"verdict": "healthy", "warnings": []}
    assert metrics["swanlab"] == {"mode": "offline", "url": None, "folder": "swanlog"}
    published = {path.name for path in tmp_path.rglob("*") if path.relative_to(tmp_path).parts[0] != "work"}
    assert not {"optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "trainer_state.json"} & published


def test_health_and_trackers_are_no_part_of_the_identity_and_keep_best_is_when_given() -> None:
    def identity(grpo: dict[str, Any], **more: Any) -> dict[str, Any]:
        config: TrainGrpoConfig = parsed(TrainGrpoConfig, grpo=grpo, rewards={"countdown": 1.0}, seed=0, **more)
        return config.identity()

    plain = identity(GRPO)
    assert identity(GRPO | {"report_to": "tensorboard"}, health={"min_entropy": None}) == plain
    assert identity(GRPO | {"save_steps": 3}) == plain and "keep_best" not in plain
    best = identity(GRPO, keep_best="reward")
    assert best["keep_best"] == "reward" and best["grpo"]["save_steps"] == 2  # the checkpoints are chosen from
