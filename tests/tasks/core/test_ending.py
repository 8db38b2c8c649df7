"""Which exceptions are want of memory: the real ones, where a CPU can raise them."""

import errno
import importlib
import re
from collections.abc import Callable

import pytest

from flows.registry import STAGES
from tasks.core.ending import ending_of, find_memory_error
from tasks.core.errors import UserError
from tasks.core.stage import Stage, StageConfig
from tasks.core.teachers.config import OpenAITeacher, TransformersTeacher
from tasks.core.trl_keys import trl_keys

STAGE = Stage("any", 1, StageConfig, lambda: None)


def _torch_refuses() -> None:
    import torch

    torch.empty(10**15)


def _numpy_refuses() -> None:
    import numpy as np

    np.ones(10**15)


def _arrow_refuses() -> None:
    import pyarrow as pa

    raise pa.ArrowMemoryError("malloc of size 64 failed")


def _cuda_refuses() -> None:
    import torch

    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def _wrapped() -> None:
    try:
        _cuda_refuses()
    except RuntimeError as error:
        raise RuntimeError("the rollout failed") from error


def _fork_refused() -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def _driver_refuses() -> None:
    raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later")


@pytest.mark.parametrize(
    ("raise_it", "memory"),
    [
        (_torch_refuses, "host"), (_numpy_refuses, "host"), (_arrow_refuses, "host"), (_fork_refused, "host"),
        (_cuda_refuses, "GPU"), (_wrapped, "GPU"), (_driver_refuses, "GPU"),
    ],
)  # fmt: skip
def test_want_of_memory_is_known_by_whoever_says_it(raise_it: Callable[[], None], memory: str) -> None:
    with pytest.raises(Exception) as raised:
        raise_it()
    found = find_memory_error(raised.value)
    assert found and found[0] == memory
    ending = ending_of(raised.value, STAGE)
    assert (ending.exit_code, ending.cause) == (2, "out_of_memory")
    assert ending.error and "the rollout failed" not in ending.error


@pytest.mark.parametrize("name", STAGES)
def test_advice_of_a_stage_names_keys_that_its_recipe_has(name: str) -> None:
    stage = importlib.import_module(f"tasks.{name}").STAGE
    teachers = (OpenAITeacher, TransformersTeacher)
    keys = {*stage.config.model_fields, *(f"teacher.{key}" for one in teachers for key in one.model_fields)}
    keys |= {f"{block}.{key}" for block in ("sft", "grpo") for key in trl_keys(f"{block.upper()}Config")}
    keys |= {f"ppo.{key}" for key in trl_keys("GRPOConfig")}
    named = re.findall(r"[a-z]+(?:[._][a-z_]+)+", stage.memory_advice)
    assert set(named) <= keys
    bounded = ("fetch_model", "select_problems", "select_traces", "prepare_traces", "mix_traces", "report")
    assert named or name in bounded, "nothing to lower in it"


def test_other_errors_are_not_want_of_memory() -> None:
    class OutOfMemoryError(Exception):
        """Somebody else's."""

    for error in (
        OutOfMemoryError("x"),
        OSError(errno.ENOSPC, "No space left"),
        ValueError("CUDA error: out of memory"),
    ):
        assert ending_of(error, STAGE).cause == "code_error"


def test_users_error_that_was_caused_by_want_of_memory_keeps_its_own_words() -> None:
    error = UserError("num_problems is too large: give less.")
    error.__cause__ = MemoryError()
    assert ending_of(error, STAGE).error == "num_problems is too large: give less."
