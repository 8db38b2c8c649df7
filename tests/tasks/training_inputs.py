"""Inputs for the training stages: a tiny model from scratch, 24 Countdown problems, two searches of each."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.core.countdown.search import write_trace
from tasks.core.stage import Stage
from tasks.core.stopping import Paused
from tasks.fetch_model import FetchModelConfig, fetch_model
from tasks.prepare_data import PrepareDataConfig, prepare_data
from tasks.train_sft import TrainSftConfig, train_sft

ROOT = Path(__file__).parents[2]
SHAPE = {
    "architecture": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_layers": 2,
    "num_heads": 2,
    "max_positions": 128,
    "max_integer": 100,
}
TEACHER: dict[str, Any] = {
    "hit_rate": 0.5,
    "max_failed_tries": 2,
    "guess_rate": 0.2,
    "max_failed_before_guess": 2,
    "error_rate": 0.0,
    "operators": "+-*",
    "max_value": 100,
}
SFT: dict[str, Any] = {
    "per_device_train_batch_size": 16,
    "learning_rate": 5e-3,
    "max_length": 128,
    "bf16": False,
    "gradient_checkpointing": False,
    "save_strategy": "no",
}
NUM_TRAIN, TRACES_PER_PROBLEM = 24, 2


def parsed(kind: type[Any], **values: Any) -> Any:
    """A config read as the stage's own process reads it, from JSON."""
    return kind.model_validate_json(json.dumps(values))


def make_base(root: Path, seed: int = 0, **more: Any) -> Path:
    """fetch_model's artifact."""
    out = folder(root)
    fetch_model(parsed(FetchModelConfig, source="scratch", scratch=SHAPE, seed=seed, **more), out=out)
    return out


def make_problems(root: Path) -> Path:
    """prepare_data's artifact."""
    out = folder(root)
    source = {"kind": "countdown", "num_numbers": [3], "max_number": 10, "max_target": 99, "operators": "+-*"}
    source["prompt"] = "tokens"
    prepare_data(parsed(PrepareDataConfig, source=source, num_train=NUM_TRAIN, num_eval=4, seed=0), out=out)
    return out


def make_traces(root: Path, problems: Path) -> Path:
    """verify_traces's artifact, as far as train_sft reads it: right traces of the train split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for problem in pq.read_table(problems / "problems.parquet").to_pylist():
        gold = json.loads(problem["answer"])
        for sample in range(TRACES_PER_PROBLEM if problem["split"] == "train" else 0):
            text, _ = write_trace(gold["numbers"], gold["target"], rng=random.Random(sample), **TEACHER)
            rows.append({"problem_id": problem["problem_id"], "prompt": problem["prompt"], "completion": text})
    out = folder(root)
    pq.write_table(pa.Table.from_pylist(rows), out / "traces.parquet")
    return out


def make_taught(root: Path, num_steps: int) -> dict[str, Path]:
    """The inputs of a training on rollouts: a model that has seen the format, so that rewards differ, and problems."""
    problems = make_problems(root / "problems")
    traces = make_traces(root / "traces", problems)
    config = parsed(TrainSftConfig, sft=SFT | {"max_steps": num_steps}, seed=0)
    train_sft(config, out=folder(root / "sft"), model=make_base(root / "base"), traces=traces)
    return {"model": root / "sft", "problems": problems}


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def run_and_kill(stage: Stage, config: dict[str, Any], inputs: dict[str, Path], out: Path, checkpoint: str) -> None:
    """Run the stage in a process of its own and kill -9 it once `checkpoint` is whole."""
    job = {"stage": stage.name, "config": config, "inputs": {name: str(path) for name, path in inputs.items()}}
    (folder(out) / "config.json").write_text(json.dumps(job))
    whole = out / "work" / "checkpoints" / checkpoint / "trainer_state.json"
    command = [sys.executable, "-m", f"tasks.{stage.name}", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (out / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
    while process.poll() is None and not whole.is_file():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, (out / "log.txt").read_text()[-3000:]


def run_and_ask_to_stop(train: Callable[[], None], out: Path, at_step: int) -> str:
    """Run `train` in this process, asked to stop at the end of a step; what it says, "" if it just ended."""
    from tasks.core.progress import Progress

    original = Progress.update

    def update(self: Progress, done: int, note: str = "") -> None:
        original(self, done, note)
        if done == at_step:
            (out / "stop").touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "update", update)
        try:
            train()
        except Paused as paused:
            return str(paused)
        finally:
            (out / "stop").unlink()
    return ""


def history_of(out: Path) -> list[dict[str, Any]]:
    """history.jsonl without what a clock measured."""
    rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "step_time"} for row in rows]


def checkpoint_of(out: Path, step: int) -> dict[str, Any]:
    """What a training goes on from at `step`, by the tensor's or value's path: weights, optimizer, schedule, random
    numbers, log."""
    import torch
    from safetensors.torch import load_file

    folder = out / "work" / "checkpoints" / f"checkpoint-{step}"
    pickled = {name: torch.load(folder / name, weights_only=False) for name in ("optimizer.pt", "scheduler.pt")}
    pickled["rng"] = torch.load(folder / "rng_state.pth", weights_only=False)
    weights = {path.name: load_file(path) for path in folder.glob("*.safetensors")}
    state = json.loads((folder / "trainer_state.json").read_text())
    log = [{key: value for key, value in row.items() if key != "step_time"} for row in state["log_history"]]
    return dict(_leaves({"weights": weights, "log": log, "epoch": state["epoch"], **pickled}))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{path}/{i}")
    else:
        yield path, value.tolist() if hasattr(value, "tolist") else value


def listing(*roots: Path) -> dict[str, tuple[int, int]]:
    """Every file and directory under `roots` with its size and time of change."""
    paths = [path for root in roots for path in [root, *root.rglob("*")]]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}
