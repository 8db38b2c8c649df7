"""Weights kept on the way: whole checkpoints that load, the same after a kill, and a training that does not notice."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.checkpoint import chosen_checkpoint, read_checkpoint, step_folder
from tasks.core.errors import UserError
from tasks.train_sft import STAGE, TrainSftConfig, train_sft
from tests.tasks.training_inputs import SFT, folder, make_base, make_problems, make_traces, parsed, run_and_kill

LORA = {"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}
CONFIG: dict[str, Any] = {
    "sft": SFT | {"max_steps": 140, "save_strategy": "steps", "save_steps": 20},
    "seed": 0,
    "keep_checkpoints_every": 40,
}
STEPS = (40, 80, 120)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("kept")
    problems = make_problems(root / "problems")
    return {"model": make_base(root / "base"), "traces": make_traces(root / "traces", problems)}


def run(inputs: dict[str, Path], out: Path, **changed: Any) -> Path:
    train_sft(parsed(TrainSftConfig, **CONFIG | changed), out=folder(out), **inputs)
    return out


def weights(checkpoint: Path) -> bytes:
    return (checkpoint / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def kept(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(inputs, tmp_path_factory.mktemp("whole"))


def test_training_keeps_whole_checkpoints_at_every_multiple(kept: Path) -> None:
    from transformers import AutoModelForCausalLM

    names = [path.name for path in sorted((kept / "checkpoints").iterdir())]
    assert names == ["step-000040", "step-000080", "step-000120"]
    for step in STEPS:
        checkpoint = step_folder(kept, step)
        assert not {path.name for path in checkpoint.iterdir()} & {"training_args.bin", "README.md", "optimizer.pt"}
        assert read_checkpoint(checkpoint).end_ids == read_checkpoint(kept / "model").end_ids
        AutoModelForCausalLM.from_pretrained(checkpoint)
    assert len({weights(path) for path in (*(step_folder(kept, step) for step in STEPS), kept / "model")}) == 4


def test_weights_kept_at_a_step_are_those_of_a_training_of_so_many_steps(
    kept: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    """At a constant learning rate, a training of forty steps ends where one of 140 is after forty."""
    sft = CONFIG["sft"] | {"lr_scheduler_type": "constant"}
    long = run(inputs, tmp_path / "long", sft=sft)
    short = run(inputs, tmp_path / "short", sft=sft | {"max_steps": 40}, keep_checkpoints_every=None)
    assert weights(step_folder(long, 40)) == weights(short / "model")


def test_training_killed_and_resumed_keeps_the_same_checkpoints(
    kept: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    run_and_kill(STAGE, CONFIG, inputs, tmp_path, "checkpoint-20")
    run(inputs, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["resumed_from_step"] in range(20, 140, 20)
    for step in STEPS:
        assert weights(step_folder(tmp_path, step)) == weights(step_folder(kept, step))
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_adapters_are_kept_merged_and_the_training_does_not_notice(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Its dropout draws random numbers, and so would the loading of an adapter for the merge."""
    with_kept = run(inputs, tmp_path / "with", lora=LORA)
    without = run(inputs, tmp_path / "without", lora=LORA, keep_checkpoints_every=None)
    assert weights(with_kept / "model") == weights(without / "model")
    assert not (without / "checkpoints").exists()
    names = {path.name for path in step_folder(with_kept, 120).iterdir()}
    assert "model.safetensors" in names and not any("adapter" in name for name in names)
    every = run(inputs, tmp_path / "every", lora=LORA, keep_checkpoints_every=140)
    assert weights(step_folder(every, 140)) == weights(every / "model") == weights(without / "model")


def test_checkpoint_that_was_not_kept_is_refused_with_those_that_were(kept: Path, tmp_path: Path) -> None:
    assert chosen_checkpoint(kept, None) == kept / "model"
    with pytest.raises(UserError, match=r"checkpoint is 3, but .* keeps those of step 40, 80, 120"):
        chosen_checkpoint(kept, 3)
    with pytest.raises(UserError, match="keeps none: set keep_checkpoints_every"):
        chosen_checkpoint(tmp_path, 3)


def test_keeping_is_part_of_the_identity_only_where_it_is_asked_for() -> None:
    assert "keep_checkpoints_every" not in parsed(TrainSftConfig, sft={}, seed=0).identity()
    assert parsed(TrainSftConfig, **CONFIG).identity()["keep_checkpoints_every"] == 40
    with pytest.raises(ValidationError):
        parsed(TrainSftConfig, **CONFIG | {"keep_checkpoints_every": 0})
