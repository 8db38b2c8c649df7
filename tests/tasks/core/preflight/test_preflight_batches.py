"""Batch arithmetic before anything is loaded, against numbers worked by hand and against TRL itself."""

import pytest

from tasks.core.preflight.batches import check_batches, rollout_batch
from tasks.core.preflight.training import DEFAULTS, Training
from tasks.core.trl_keys import trl_keys


def grpo(processes: int = 1, **block) -> Training:
    return Training("grpo", {"per_device_train_batch_size": 8, "num_generations": 8, **block}, processes)


def texts(training: Training, level: str, num_problems: int | None = None) -> list[str]:
    return [one.text for one in check_batches(training, num_problems) if one.level == level]


def test_batch_of_three_processes_counts_prompts_and_completions():
    # Open-R1's layout: 7 processes x 16 x 4 micro-batches = 448 completions of 28 problems, trained on in one step.
    batch = rollout_batch(grpo(7, per_device_train_batch_size=16, gradient_accumulation_steps=4, num_generations=16))
    assert (batch.generation_batch, batch.per_step, batch.prompts_per_generation) == (448, 448, 28)
    assert batch.steps_per_epoch(1000) == 35  # 1000 // 28


def test_batch_reused_takes_several_steps():
    # 8 x 4 micro-batches = 32 completions = 4 problems, seen twice, 2 micro-batches a step: 4 steps on each batch.
    training = grpo(steps_per_generation=4, num_iterations=2, gradient_accumulation_steps=2)
    batch = rollout_batch(training)
    assert (batch.generation_batch, batch.per_step, batch.steps_per_batch) == (32, 16, 4.0)
    assert "1 new problems x 8 completions, 16 completions trained on" in texts(training, "note")[0]
    assert "100 problems are 100 steps an epoch; 300 steps see 3 epochs" in texts(training, "note", 100)[1]


def test_batch_that_splits_a_group_is_refused_with_the_nearest_that_work():
    (text,) = texts(grpo(3, per_device_train_batch_size=6, num_generations=8), "refuse")
    assert "6 x 3 processes x 1 micro-batches are 18 completions" in text
    assert "per_device_train_batch_size: 8, or gradient_accumulation_steps: 4, or num_generations: 9." in text


@pytest.mark.parametrize(
    ("block", "fix"),
    [
        ({"per_device_train_batch_size": 8}, ()),
        ({"per_device_train_batch_size": 6}, ("per_device_train_batch_size: 8", "num_generations: 9")),
    ],
)
def test_batch_fixes_pass_the_check(block, fix):
    for change in fix:
        key, _, value = change.partition(": ")
        assert texts(grpo(3, **{**block, key: int(value)}), "refuse") == []


def test_batch_of_both_sizes_or_a_broken_multiple_is_refused():
    assert "exclude each other" in texts(grpo(generation_batch_size=64, steps_per_generation=2), "refuse")[0]
    assert "give 32, or leave it out" in texts(grpo(2, generation_batch_size=36), "refuse")[0]


def test_batch_of_ppo_may_have_groups_of_one():
    training = Training("ppo", {"per_device_train_batch_size": 7, "num_generations": 1})
    assert texts(training, "refuse") == []
    assert "num_generations is 1" in texts(grpo(num_generations=1), "refuse")[0]


def test_batch_larger_than_the_data_is_refused_and_epochs_are_told():
    training = grpo(gradient_accumulation_steps=16, max_steps=20)  # 16 problems a step
    assert "takes 16 problems, but there are 12" in texts(training, "refuse", 12)[0]
    assert "80 problems are 5 steps an epoch; 20 steps see 4 epochs" in texts(training, "note", 80)[1]


def test_batch_vllm_groups_must_divide_the_processes():
    training = grpo(3, use_vllm=True, vllm_tensor_parallel_size=2)
    assert "give a divisor of 3" in texts(training, "refuse")[0]


def test_defaults_are_trls():
    from trl import GRPOConfig, SFTConfig

    fields = {**SFTConfig.__dataclass_fields__, **GRPOConfig.__dataclass_fields__}
    assert set(DEFAULTS) <= set(trl_keys("GRPOConfig")) | set(trl_keys("SFTConfig"))
    differing = {
        key: (fields[key].default, value)
        for key, value in DEFAULTS.items()
        if key != "optim" and fields[key].default != value
    }
    assert differing == {}
    assert SFTConfig.__dataclass_fields__["max_length"].default == DEFAULTS["max_length"]
    assert fields["optim"].default == DEFAULTS["optim"]


def test_batches_agree_with_trl():
    from trl import GRPOConfig

    for block in ({}, {"gradient_accumulation_steps": 3}, {"generation_batch_size": 48}, {"steps_per_generation": 2}):
        training = grpo(**block)
        theirs = GRPOConfig(output_dir="unused", use_cpu=True, report_to="none", **training.block)
        assert rollout_batch(training).generation_batch == theirs.generation_batch_size
    with pytest.raises(ValueError, match="divisible by num_generations"):
        GRPOConfig(output_dir="unused", use_cpu=True, report_to="none", per_device_train_batch_size=6)
