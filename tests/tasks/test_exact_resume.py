"""2N steps = N steps, death, N steps: weights, optimizer, schedule, random numbers and log, bit for bit.

test_train_sft.py and test_train_grpo.py show it of plain runs that are killed with SIGKILL. Here are the keys that make
it hard, together: accumulated gradients, dropout in adapters, completions that serve several steps, a reference model.
A death is an exception at the end of a step, past every handler of ours: the disk is as a kill leaves it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.training_inputs import (
    checkpoint_of,
    folder,
    history_of,
    make_base,
    make_problems,
    make_traces,
    parsed,
)

LORA = {"r": 4, "alpha": 8, "dropout": 0.2, "target_modules": ["q_proj", "v_proj"]}
COMMON: dict[str, Any] = {"bf16": False, "gradient_checkpointing": False, "logging_steps": 1, "save_steps": 4}


class Death(BaseException):
    """No handler expects it."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("resume")
    problems = make_problems(root / "problems")
    traces = make_traces(root / "traces", problems)
    return {"model": make_base(root / "base"), "problems": problems, "traces": traces}


def check_resume(train_in: Callable[[Path], None], root: Path, *, dies_at: int, compared_at: int) -> None:
    """Train in ROOT/whole, and in ROOT/killed with a death after `dies_at` steps; compare checkpoint and history."""
    import swanlab

    from tasks.core.progress import Progress

    whole, killed = folder(root / "whole"), folder(root / "killed")
    train_in(whole)
    original = Progress.update

    def update(self: Progress, done: int, note: str = "") -> None:
        if done == dies_at:
            raise Death
        original(self, done, note)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "update", update)
        with pytest.raises(Death):
            train_in(killed)
    swanlab.finish()  # of this process, which a kill would have ended
    assert not (killed / "work" / "checkpoints" / f"checkpoint-{compared_at}").exists()
    train_in(killed)
    expected = checkpoint_of(whole, compared_at)
    assert sum("exp_avg" in path for path in expected) > 4, "no optimizer state to compare"
    assert checkpoint_of(killed, compared_at) == expected
    assert history_of(killed) == history_of(whole)


def test_sft_with_adapters_dropout_and_accumulated_gradients_resumes_exactly(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    from tasks.train_sft import TrainSftConfig, train_sft

    # 48 traces in batches of 8 x 2: an epoch is 3 steps, so the death is in the second and the comparison in the third.
    sft = COMMON | {
        "max_steps": 9, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "learning_rate": 3e-3,
        "max_length": 128, "lr_scheduler_type": "cosine", "warmup_steps": 2,
    }  # fmt: skip

    def train_in(out: Path) -> None:
        config = parsed(TrainSftConfig, sft=sft, lora=LORA, seed=3)
        train_sft(config, out=out, model=inputs["model"], traces=inputs["traces"])

    check_resume(train_in, tmp_path, dies_at=6, compared_at=8)


@pytest.mark.parametrize(
    "more", [{"lora": LORA, "beta": 0.0}, {"beta": 0.05, "sync_ref_model": True, "ref_model_sync_steps": 3}]
)
def test_grpo_with_reused_completions_and_a_reference_resumes_exactly(
    inputs: dict[str, Path], tmp_path: Path, more: dict[str, Any]
) -> None:
    from tasks.train_grpo import TrainGrpoConfig, train_grpo

    # Completions of 4 batches, 2 a step, used twice: they serve 4 steps. 24 problems, 8 a time: an epoch is 12 steps.
    more = dict(more)
    lora = more.pop("lora", None)
    grpo = COMMON | more | {
        "max_steps": 17, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "steps_per_generation": 4,
        "num_iterations": 2, "num_generations": 4, "max_completion_length": 12, "learning_rate": 1e-2,
    }  # fmt: skip
    rewards = {"soft_overlong_punishment": {"weight": 1.0, "max_completion_len": 12, "soft_punish_cache": 6}}

    def train_in(out: Path) -> None:
        config = parsed(TrainGrpoConfig, grpo=grpo, rewards=rewards, lora=lora, seed=3)
        train_grpo(config, out=out, model=inputs["model"], problems=inputs["problems"])

    check_resume(train_in, tmp_path, dies_at=14, compared_at=16)
