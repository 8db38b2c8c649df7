"""What surrounds TRL's trainers: arguments, checkpoints, summaries."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.core.training import first_and_last, history, trainer_arguments
from tasks.core.trl_keys import MANAGED_KEYS, OPERATIONAL_KEYS, trl_keys

CONFIGS = ("SFTConfig", "GRPOConfig")


def arguments(name: str, out: Path, **block: Any) -> Any:
    import trl

    ours = {"reward_weights": [1.0]} if name == "GRPOConfig" else {}
    return trainer_arguments(getattr(trl, name), name, block, out, 7, **ours)


@pytest.mark.parametrize("name", CONFIGS)
def test_trainer_arguments_set_only_managed_keys_and_default_only_operational_ones(name: str, tmp_path: Path) -> None:
    def spy(**values: Any) -> dict[str, Any]:
        return values

    ours = {"reward_weights": [1.0]} if name == "GRPOConfig" else {}
    without = trainer_arguments(spy, "", {}, tmp_path, 7, **ours)  # type: ignore[type-var]
    looked_into = {"report_to", "model_init_kwargs", "use_liger_kernel", "use_vllm"}
    theirs = {key: "the recipe's" for key in trl_keys(name) if key not in looked_into}
    forced = {
        key for key, value in trainer_arguments(spy, "", theirs, tmp_path, 7, **ours).items() if value != "the recipe's"
    }  # type: ignore[type-var]
    assert forced <= MANAGED_KEYS.keys() | {"report_to"}  # which is checked, and never names SwanLab
    assert without.keys() - forced <= OPERATIONAL_KEYS


@pytest.mark.parametrize("name", CONFIGS)
def test_trainer_arguments_leave_managed_keys_as_their_reasons_say(name: str, tmp_path: Path) -> None:
    made = arguments(name, tmp_path)
    expected = {
        "output_dir": str(tmp_path / "work" / "checkpoints"),
        "seed": 7,
        "report_to": [],
        "push_to_hub": False,
        "save_only_model": False,
        "ignore_data_skip": False,
        "resume_from_checkpoint": None,
        "hub_token": None,
        "hub_model_id": None,
        "trackio_space_id": None,
    }
    assert expected.keys() <= MANAGED_KEYS.keys() | {"report_to"}
    assert {key: getattr(made, key) for key in expected} == expected
    assert not getattr(made, "trust_remote_code", False)
    if name == "GRPOConfig":
        assert made.reward_weights == [1.0] and made.remove_unused_columns is False
        assert made.log_completions_hub_repo is None


@pytest.mark.parametrize("name", CONFIGS)
def test_trainer_arguments_need_no_use_cpu_without_a_gpu(name: str, tmp_path: Path) -> None:
    import torch

    made = arguments(name, tmp_path)
    assert made.bf16  # TRL's default, the same on every machine, because it is part of the identity
    assert made.device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_first_and_last_takes_the_last_tenth() -> None:
    log = [{"reward": float(i)} for i in range(20)] + [{"other": 1.0}]
    assert first_and_last(log, "reward", "r") == {"r_first": 0.0, "r_last": 18.5}
    assert first_and_last(log, "absent", "a") == {}


def test_history_holds_numbers_only() -> None:
    log = [{"step": 1, "a": 0.5, "b": None, "c": math.nan, "d": math.inf}, {"train_runtime": 3.0, "step": 1}]
    assert history(log) == [{"step": 1, "a": 0.5}]


def test_last_checkpoint_is_the_newest_whole_one_and_the_broken_are_removed(tmp_path: Path) -> None:
    from tasks.core.resume import last_checkpoint

    for step, state in ((9, "{}"), (50, "{}"), (100, '{"epo'), (150, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-50"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-50", "checkpoint-9"]
    assert last_checkpoint(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("iterations", "per_generation", "accumulation", "steps"), [(1, 4, 4, 1), (2, 4, 4, 2), (1, 8, 4, 2), (1, 3, 2, 3)]
)
def test_steps_per_cycle_is_when_a_step_begins_with_new_completions(
    iterations: int, per_generation: int, accumulation: int, steps: int
) -> None:
    from tasks.core.resume import steps_per_cycle

    args = SimpleNamespace(
        num_iterations=iterations, steps_per_generation=per_generation, gradient_accumulation_steps=accumulation
    )
    assert steps_per_cycle(args) == steps
    assert steps_per_cycle(SimpleNamespace(gradient_accumulation_steps=accumulation)) == 1
