"""train_sft against a plain TRL script with the same settings: python -m tests.bench.bench_train_sft"""

import json
import time
from pathlib import Path
from typing import Any

from tasks.train_sft import TrainSftConfig, train_sft
from tests.bench.compare_training import compare
from tests.tasks.training_inputs import parsed

NUM_STEPS = 100
SFT: dict[str, Any] = {
    "max_steps": NUM_STEPS,
    "per_device_train_batch_size": 32,
    "learning_rate": 3e-3,
    "max_length": 256,
    "bf16": False,
    "gradient_checkpointing": False,
    "logging_steps": 10,
    "save_strategy": "no",
}


def ours(out: Path, inputs: dict[str, Path]) -> float:
    """Our stage."""
    config = parsed(TrainSftConfig, sft=SFT, seed=0)
    train_sft(config, out=out, model=inputs["base"], traces=inputs["traces"])
    return float(json.loads((out / "metrics.json").read_text())["train_wall_s"])


def plain(out: Path, inputs: dict[str, Path]) -> float:
    """What one would write by hand."""
    import torch
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    rows = load_dataset(
        "parquet", data_files=str(inputs["traces"] / "traces.parquet"), cache_dir=str(out / "cache"), split="train"
    )
    trainer = SFTTrainer(
        model=str(inputs["base"] / "model"),
        args=SFTConfig(
            output_dir=str(out),
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            seed=0,
            **SFT,
        ),
        train_dataset=rows.map(
            lambda row: {"completion": [{"role": "assistant", "content": row["completion"]}]},
            remove_columns=["problem_id"],
        ),
    )
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    trainer.save_model(str(out / "model"))
    return seconds


if __name__ == "__main__":
    compare(ours, plain, NUM_STEPS)
