"""TRL's keys as read from its source, against TRL itself, and the judgement of each key."""

import dataclasses
import subprocess
import sys
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ValidationError

from tasks.core.trl_keys import MANAGED_KEYS, OPERATIONAL_KEYS, trl_block, trl_identity, trl_keys
from tasks.core.trl_policy import CHECKPOINT_KEYS, REMOVED_KEYS


class Block(BaseModel):
    grpo: Annotated[dict[str, Any], trl_block("GRPOConfig")]


def mistakes(**block: Any) -> dict[str, str]:
    """The message at each key of a GRPO block."""
    try:
        Block(grpo=block)
    except ValidationError as error:
        assert {one["type"] for one in error.errors()} == {"r1_key"}
        return {".".join(map(str, one["loc"])): one["msg"] for one in error.errors()}
    return {}


@pytest.mark.parametrize("config", ["GRPOConfig", "SFTConfig"])
def test_trl_keys_equal_the_fields_of_the_real_class(config: str) -> None:
    trl = pytest.importorskip("trl")
    fields = dataclasses.fields(getattr(trl, config))
    assert set(trl_keys(config)) == {field.name for field in fields}


@pytest.mark.parametrize("config", ["GRPOConfig", "SFTConfig"])
def test_trl_keys_accept_every_default_of_the_real_class(config: str) -> None:
    trl = pytest.importorskip("trl")
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(getattr(trl, config))
        if field.default is not dataclasses.MISSING
    }
    assert len(defaults) > 100
    assert [name for name, value in defaults.items() if not trl_keys(config)[name].accepts(value)] == []


@pytest.mark.parametrize(
    ("key", "enum"),
    [
        ("optim", "transformers.training_args.OptimizerNames"),
        ("lr_scheduler_type", "transformers.trainer_utils.SchedulerType"),
        ("save_strategy", "transformers.trainer_utils.SaveStrategy"),
        ("eval_strategy", "transformers.trainer_utils.IntervalStrategy"),
    ],
)
def test_trl_keys_enum_values_equal_the_real_enum(key: str, enum: str) -> None:
    module, _, name = enum.rpartition(".")
    real = getattr(pytest.importorskip(module), name)
    assert trl_keys("GRPOConfig")[key].values == tuple(member.value for member in real)


def test_trl_keys_are_read_without_importing_the_libraries() -> None:
    code = (
        "import sys; from tasks.core.trl_keys import trl_keys; assert 'beta' in trl_keys('GRPOConfig');"
        "print([name for name in ('trl', 'transformers', 'torch', 'numpy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("max_steps", 4, True),
        ("max_steps", 4.0, False),
        ("max_steps", True, False),
        ("max_steps", None, False),
        ("learning_rate", 1, True),
        ("learning_rate", 5e-7, True),
        ("learning_rate", "5e-7", False),
        ("learning_rate", False, False),
        ("generation_batch_size", None, True),
        ("generation_batch_size", 64, True),
        ("generation_batch_size", "64", False),
        ("bf16", None, True),
        ("bf16", 1, False),
        ("scale_rewards", "batch", True),
        ("scale_rewards", False, True),
        ("scale_rewards", 1, False),
        ("fsdp", True, True),
        ("fsdp", "full_shard", True),
        ("model_init_kwargs", {"dtype": "bfloat16"}, True),
        ("model_init_kwargs", ["dtype"], False),
        ("optim_target_modules", ["q", "k"], True),
        ("optim_target_modules", ["q", 1], False),
        ("optim_target_modules", "all-linear", True),
        ("liger_kernel_config", {"rope": True}, True),
        ("liger_kernel_config", {"rope": "yes"}, False),
        ("optim", "adamw_torch", True),
        ("optim", "adamw_torhc", False),
        ("optim", 3, False),
        ("lr_scheduler_type", "cosine", True),
        ("lr_scheduler_type", None, False),
        ("dataloader_multiprocessing_context", None, True),
        ("dataloader_multiprocessing_context", "thread", False),
        ("pad_to_multiple_of", "auto", True),
    ],
)
def test_trl_key_accepts_what_its_annotation_says(key: str, value: Any, fits: bool) -> None:
    assert trl_keys("GRPOConfig")[key].accepts(value) is fits


def test_trl_block_every_mistake_is_located_at_its_key() -> None:
    found = mistakes(learning_rat=1e-6, beta=0.04, max_steps="4", output_dir="x", warmup_ratio=0.1, max_seq_length=512)
    assert list(found) == [
        "grpo.learning_rat",
        "grpo.max_steps",
        "grpo.output_dir",
        "grpo.warmup_ratio",
        "grpo.max_seq_length",
    ]
    assert found["grpo.learning_rat"] == "is not a key of TRL's GRPOConfig; nearest: learning_rate"
    assert found["grpo.max_steps"] == ("is '4', but TRL's GRPOConfig wants int (a number must not stand in quotes)")
    assert found["grpo.output_dir"] == "cannot be set in a recipe: the artifact store decides where a stage writes"
    assert "write warmup_steps, which reads a number below 1 as a share" in found["grpo.warmup_ratio"]


def test_trl_block_key_of_the_other_trainer_is_refused() -> None:
    assert "packing" in trl_keys("SFTConfig")
    assert mistakes(packing=True)["grpo.packing"].startswith("is not a key of TRL's GRPOConfig")


def test_trl_block_remote_code_is_refused_inside_a_mapping_too() -> None:
    assert (
        "code from a hub is never run"
        in mistakes(model_init_kwargs={"trust_remote_code": True})["grpo.model_init_kwargs"]
    )


def test_trl_block_eval_every_few_steps_must_say_how_many() -> None:
    assert "is missing" in mistakes(eval_strategy="steps")["grpo.eval_steps"]
    assert mistakes(eval_strategy="steps", eval_steps=10) == {}


def test_trl_block_error_message_with_braces_is_shown_as_is() -> None:
    assert mistakes(max_steps="{0}{x}")["grpo.max_steps"] == "is '{0}{x}', but TRL's GRPOConfig wants int"


def test_trl_policy_names_only_keys_that_trl_has() -> None:
    known = set(trl_keys("GRPOConfig")) | set(trl_keys("SFTConfig"))
    gone = {"logging_dir", "overwrite_output_dir"}  # older recipes have them; the reason matters more than the absence
    assert OPERATIONAL_KEYS <= known
    assert set(MANAGED_KEYS) - known == gone
    assert not set(REMOVED_KEYS) & known
    assert not OPERATIONAL_KEYS & set(MANAGED_KEYS)
    assert CHECKPOINT_KEYS <= OPERATIONAL_KEYS


@pytest.mark.parametrize(
    "key",
    [
        "learning_rate",
        "max_steps",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "bf16",
        "fp16",
        "tf32",
        "torch_compile",
        "temperature",
        "top_k",
        "num_generations",
        "max_completion_length",
        "beta",
        "use_vllm",
        "vllm_mode",
        "loss_type",
        "scale_rewards",
        "optim",
        "data_seed",
        "dataloader_drop_last",
        "dataloader_in_order",
        "max_length",
        "packing",
        "deepspeed",
        "fsdp",
        "load_best_model_at_end",
        "shuffle_dataset",
        "model_init_kwargs",
    ],
)
def test_trl_key_that_changes_the_numbers_is_identity(key: str) -> None:
    assert key not in OPERATIONAL_KEYS
    assert key not in MANAGED_KEYS


def test_trl_identity_leaves_out_operational_keys() -> None:
    block = {"beta": 0.04, "logging_steps": 1, "save_steps": 50, "vllm_server_port": 9000, "use_cpu": True}
    assert trl_identity("GRPOConfig", block) == {"beta": 0.04}


def test_trl_identity_whole_number_for_a_float_has_one_spelling() -> None:
    identity = trl_identity("GRPOConfig", {"beta": 0, "max_steps": 4, "delta": 2, "bf16": False})
    assert [(key, repr(value)) for key, value in identity.items()] == [
        ("beta", "0.0"),
        ("max_steps", "4"),
        ("delta", "2.0"),
        ("bf16", "False"),
    ]


def test_trl_identity_best_checkpoint_keeps_when_checkpoints_are_written() -> None:
    block = {"load_best_model_at_end": True, "save_steps": 50, "logging_steps": 5}
    assert trl_identity("SFTConfig", block) == {"load_best_model_at_end": True, "save_steps": 50.0}
