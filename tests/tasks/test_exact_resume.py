"""2N steps = N steps, death, N steps: weights, optimizer, schedule, random numbers and log, bit for bit.

test_train_sft.py and test_train_grpo.py show it of plain runs that are killed with SIGKILL. Here are the keys that make
it hard, together: accumulated gradients, dropout in adapters, completions that serve several steps, a reference model.
A death is an exception at the end of a step, past every handler of ours: the disk is as a kill leaves it.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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


class Trained(NamedTuple):
    """What is compared of a training."""

    checkpoint: dict[str, Any]
    history: list[dict[str, Any]]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("resume")
    problems = make_problems(root / "problems")
    traces = make_traces(root / "traces", problems)
    return {"model": make_base(root / "base"), "problems": problems, "traces": traces}


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Executor]:
    """A process in which nothing else draws random numbers; in this one other tests leave threads of Prefect's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


def train_twice(
    train_in: Callable[[Path], None], root: Path, *, dies_at: int, compared_at: int
) -> tuple[Trained, Trained]:
    """Train in ROOT/whole, and in ROOT/killed with a death after `dies_at` steps; both at `compared_at`."""
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
    one, other = (Trained(checkpoint_of(out, compared_at), history_of(out)) for out in (whole, killed))
    return one, other


def check_resume(
    elsewhere: Executor, train_in: Callable[[Path], None], root: Path, *, dies_at: int, compared_at: int
) -> None:
    """Both trainings are the same in all that a training goes on from, and in their logs."""
    whole, killed = elsewhere.submit(train_twice, train_in, root, dies_at=dies_at, compared_at=compared_at).result()
    assert sum("exp_avg" in path for path in whole.checkpoint) > 4, "no optimizer state to compare"
    assert any(path.startswith("/rng/python") for path in whole.checkpoint)
    assert killed.checkpoint == whole.checkpoint
    assert killed.history == whole.history


def run_sft(inputs: dict[str, Path], sft: dict[str, Any], out: Path) -> None:
    from tasks.train_sft import TrainSftConfig, train_sft

    config = parsed(TrainSftConfig, sft=sft, lora=LORA, seed=3)
    train_sft(config, out=out, model=inputs["model"], traces=inputs["traces"])


def run_grpo(inputs: dict[str, Path], grpo: dict[str, Any], lora: dict[str, Any] | None, out: Path) -> None:
    from tasks.train_grpo import TrainGrpoConfig, train_grpo

    rewards = {"soft_overlong_punishment": {"weight": 1.0, "max_completion_len": 12, "soft_punish_cache": 6}}
    config = parsed(TrainGrpoConfig, grpo=grpo, rewards=rewards, lora=lora, seed=3)
    train_grpo(config, out=out, model=inputs["model"], problems=inputs["problems"])


def test_sft_with_adapters_dropout_and_accumulated_gradients_resumes_exactly(
    inputs: dict[str, Path], elsewhere: Executor, tmp_path: Path
) -> None:
    # 48 traces in batches of 8 x 2: an epoch is 3 steps, so the death is in the second and the comparison in the third.
    sft = COMMON | {
        "max_steps": 9, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "learning_rate": 3e-3,
        "max_length": 128, "lr_scheduler_type": "cosine", "warmup_steps": 2,
    }  # fmt: skip
    check_resume(elsewhere, partial(run_sft, inputs, sft), tmp_path, dies_at=6, compared_at=8)


@pytest.mark.parametrize(
    ("lora", "more"), [(LORA, {"beta": 0.0}), (None, {"beta": 0.05, "sync_ref_model": True, "ref_model_sync_steps": 3})]
)
def test_grpo_with_reused_completions_and_a_reference_resumes_exactly(
    inputs: dict[str, Path], elsewhere: Executor, tmp_path: Path, lora: dict[str, Any] | None, more: dict[str, Any]
) -> None:
    # Completions of 4 batches, 2 a step, used twice: they serve 4 steps. 24 problems, 8 a time: an epoch is 12 steps.
    grpo = COMMON | more | {
        "max_steps": 17, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "steps_per_generation": 4,
        "num_iterations": 2, "num_generations": 4, "max_completion_length": 12, "learning_rate": 1e-2,
    }  # fmt: skip
    check_resume(elsewhere, partial(run_grpo, inputs, grpo, lora), tmp_path, dies_at=14, compared_at=16)
