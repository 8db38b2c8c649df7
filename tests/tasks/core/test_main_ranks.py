"""Several ranks of one stage, really launched: whose word stands in status.json, and a training that pauses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from r1_process import PROJECT_DIR, TOYS_DIR

from tasks.core.attempts import read_attempts
from tasks.core.ending import DONE, INTERRUPTED, Ending
from tasks.core.files import read_json, write_json
from tasks.core.status import Status
from tests.tasks.training_inputs import folder, history_of, make_base, make_problems, make_traces

# `accelerate launch --cpu` would start one process and say nothing: it leaves several to an MPI launcher. --multi_gpu
# takes torch's launcher on any machine; without a GPU transformers then picks gloo.
LAUNCH = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "-m")
CRASH, PAUSE = Ending(1, "code_error", "ValueError: x"), Ending(75, "paused", "saved")
SFT = {
    "max_steps": 8, "per_device_train_batch_size": 4, "learning_rate": 3e-3, "max_length": 128, "bf16": False,
    "gradient_checkpointing": False, "logging_steps": 1, "save_steps": 100,
}  # fmt: skip
GRPO = {
    "max_steps": 8, "per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 12, "bf16": False,
    "gradient_checkpointing": False, "logging_steps": 1, "save_steps": 100,
}  # fmt: skip


def launch(out: Path, stage: str, config: dict[str, Any], **inputs: Path) -> "subprocess.CompletedProcess[str]":
    """Two ranks of the stage in `out`, to their end."""
    job = {"stage": stage, "config": config, "inputs": {name: str(path) for name, path in inputs.items()}}
    write_json(folder(out) / "config.json", job)
    return subprocess.run(
        [sys.executable, *LAUNCH, f"tasks.{stage}", str(out)],
        cwd=PROJECT_DIR,
        env={**os.environ, "PYTHONPATH": str(TOYS_DIR), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(("rank", "prefix"), [(0, ""), (1, "rank 1: ")])
def test_rank_that_crashes_is_told_by_name_and_not_hidden_by_the_siblings_that_are_ended(
    tmp_path: Path, rank: int, prefix: str
) -> None:
    ended = launch(tmp_path, "probe", {"do": "crash", "rank": rank})
    status = read_json(tmp_path / "status.json")
    assert ended.returncode != 0
    assert (status["state"], status["exit_code"], status["cause"]) == ("failed", 1, "code_error")
    assert status["error"] == f"{prefix}ValueError: told to crash"
    causes = [one.cause for one in read_attempts(tmp_path)]
    assert causes == ["code_error"] if rank == 0 else causes in ([], ["interrupted"])  # [] if it was ended at once


def test_ranks_that_pause_together_are_told_once_by_the_first(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    assert launch(tmp_path, "probe", {"do": "pause", "rank": -1}).returncode != 0
    status = read_json(tmp_path / "status.json")
    assert (status["exit_code"], status["cause"], status["error"]) == (75, "paused", "saved in time")
    assert not (tmp_path / "stop").exists() and len(read_attempts(tmp_path)) == 1


@pytest.mark.parametrize(
    ("words", "state", "error"),
    [
        ([(1, CRASH), (0, INTERRUPTED)], "failed", "rank 1: ValueError: x"),
        ([(0, INTERRUPTED), (1, CRASH)], "failed", "rank 1: ValueError: x"),
        ([(1, CRASH), (0, CRASH)], "failed", "rank 1: ValueError: x"),
        ([(1, CRASH), (0, DONE)], "failed", "rank 1: ValueError: x"),
        ([(0, DONE), (1, CRASH)], "done", None),
        ([(1, DONE)], "running", None),
        ([(1, INTERRUPTED), (0, DONE)], "done", None),
        ([(1, INTERRUPTED)], "running", None),
        ([(1, PAUSE), (0, PAUSE)], "failed", "saved"),
    ],
)
def test_status_of_ranks_keeps_the_first_final_word_but_for_an_interruption(
    tmp_path: Path, words: list[tuple[int, Ending]], state: str, error: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_PORT", "29501")
    earlier = {"state": "failed", "cause": "code_error", "error": "of an earlier launch", "ended_at": 1.0}
    earlier |= {"launch": "29500//"}
    write_json(tmp_path / "status.json", earlier)
    ranks = []
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        ranks.append(Status(tmp_path))
        ranks[rank].begin()
    for rank, ending in words:
        ranks[rank].end(ending)
    status = read_json(tmp_path / "status.json")
    assert (status["state"], status["error"]) == (state, error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "config", "num_rows", "error"),
    [
        ("train_sft", {"sft": SFT | {"learning_rate": 1e37, "warmup_steps": 0}}, 1, "the gradient of step 2 is NaN. "),
        (
            "train_grpo",
            {"grpo": GRPO, "rewards": {"countdown": 1.0}, "health": {"max_zero_reward_steps": 2}},
            2,
            "every reward was 0 for 2 steps, to step 2. ",
        ),
    ],
)
def test_training_of_two_ranks_that_goes_wrong_ends_on_both_and_is_told_once_by_the_first(
    tmp_path: Path, stage: str, config: dict[str, Any], num_rows: int, error: str
) -> None:
    problems = make_problems(tmp_path / "problems")
    inputs = {"model": make_base(tmp_path / "base")}
    inputs |= (
        {"problems": problems} if stage == "train_grpo" else {"traces": make_traces(tmp_path / "traces", problems)}
    )
    ended = launch(tmp_path / "out", stage, config | {"seed": 0}, **inputs)
    status = read_json(tmp_path / "out" / "status.json")
    assert (status["exit_code"], status["cause"]) == (2, "unhealthy"), ended.stderr
    assert status["error"].startswith(f"unhealthy: {error}")
    assert len(history_of(tmp_path / "out")) == num_rows and not (tmp_path / "out" / "model").exists()


@pytest.mark.slow
def test_training_of_two_ranks_paused_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    model = make_base(tmp_path / "base")
    inputs = {"model": model, "traces": make_traces(tmp_path / "traces", make_problems(tmp_path / "problems"))}
    whole, paused = folder(tmp_path / "whole"), folder(tmp_path / "paused")
    ended = launch(whole, "train_sft", {"sft": SFT, "seed": 0}, **inputs)
    assert ended.returncode == 0, ended.stderr
    assert history_of(whole)[-1]["epoch"] == pytest.approx(8 / 6), (
        "48 traces, 4 for each of two ranks: 6 steps an epoch"
    )
    (paused / "stop").touch()
    ended = launch(paused, "train_sft", {"sft": SFT, "seed": 0}, **inputs)
    status = read_json(paused / "status.json")
    assert (status["cause"], status["error"][:20]) == ("paused", "saved at step 1 of 8"), ended.stderr
    assert launch(paused, "train_sft", {"sft": SFT, "seed": 0}, **inputs).returncode == 0
    for out in (whole, paused):
        names = [path.name for path in out.iterdir() if path.name.split(".")[0] in ("status", "progress", "stop")]
        assert sorted(names) == ["progress.json", "status.json"]
        assert read_json(out / "status.json")["state"] == "done" and read_json(out / "progress.json")["done"] == 8
    assert json.loads((paused / "metrics.json").read_text())["resumed_from_step"] == 1
    assert history_of(paused) == history_of(whole) and len(history_of(whole)) == 8
    assert (paused / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
