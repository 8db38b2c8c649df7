"""train_grpo against a plain TRL script with the same settings: python -m tests.bench.bench_train_grpo"""

import json
import time
from pathlib import Path
from typing import Any

from tasks.train_grpo import TrainGrpoConfig, train_grpo
from tests.bench.compare_training import compare
from tests.tasks.training_inputs import parsed

NUM_STEPS = 12
GRPO: dict[str, Any] = {
    "max_steps": NUM_STEPS,
    "per_device_train_batch_size": 128,
    "num_generations": 8,
    "max_completion_length": 64,
    "learning_rate": 2e-4,
    "beta": 0.0,
    "bf16": False,
    "gradient_checkpointing": False,
    "logging_steps": 2,
    "save_strategy": "no",
}


def ours(out: Path, inputs: dict[str, Path]) -> float:
    """Our stage."""
    config = parsed(TrainGrpoConfig, grpo=GRPO, rewards={"countdown": 1.0}, seed=0)
    train_grpo(config, out=out, model=inputs["base"], problems=inputs["problems"])
    return float(json.loads((out / "metrics.json").read_text())["train_wall_s"])


def plain(out: Path, inputs: dict[str, Path]) -> float:
    """What one would write by hand."""
    import torch
    from datasets import load_dataset
    from trl import GRPOConfig, GRPOTrainer

    from tasks.core.rewards import build_rewards

    rows = load_dataset(
        "parquet", data_files=str(inputs["problems"] / "problems.parquet"), cache_dir=str(out / "cache"), split="train"
    )
    rewards, weights = build_rewards({"countdown": 1.0})
    trainer = GRPOTrainer(
        model=str(inputs["base"] / "model"),
        args=GRPOConfig(
            output_dir=str(out),
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            reward_weights=weights,
            seed=0,
            **GRPO,
        ),
        train_dataset=rows.filter(lambda row: row["split"] == "train"),
        reward_funcs=rewards,
    )
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    trainer.save_model(str(out / "model"))
    return seconds


if __name__ == "__main__":
    compare(ours, plain, NUM_STEPS)
