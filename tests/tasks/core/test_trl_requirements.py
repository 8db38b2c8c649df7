"""What a recipe's keys need and this machine does not have is told in one sentence each, with the command."""

import pytest

from tasks.core import trl_requirements
from tasks.core.errors import UserError
from tasks.core.lora import Lora
from tasks.core.trl_requirements import OPTIMISERS, missing_packages, refuse_missing_packages

LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ("q_proj",)}


@pytest.fixture
def nothing_is_installed(monkeypatch):
    monkeypatch.setattr(trl_requirements, "_is_installed", lambda package: False)


@pytest.mark.usefixtures("nothing_is_installed")
@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"optim": "adamw_8bit"}, "optim: adamw_8bit needs the package bitsandbytes, which is not installed here: pip"),
        ({"optim": "adamw_torch_4bit"}, "needs the package torchao"),
        ({"use_liger_kernel": True}, "use_liger_kernel: true needs the package liger_kernel"),
        ({"use_vllm": True, "vllm_mode": "server"}, "use_vllm: true needs the package vllm"),
        (
            {"model_init_kwargs": {"attn_implementation": "flash_attention_2"}},
            "model_init_kwargs.attn_implementation: flash_attention_2 needs the package flash_attn",
        ),
        ({"model_init_kwargs": {"attn_implementation": "kernels-community/flash-attn2"}}, "needs the package kernels"),
        ({"model_init_kwargs": {"use_kernels": True}}, "needs the package kernels"),
        ({"report_to": ["swanlab", "mlflow"]}, "report_to: mlflow needs the package mlflow"),
        ({"report_to": "tensorboard"}, "report_to: tensorboard needs the package tensorboard"),
    ],
)
def test_missing_package_is_named_with_its_key(block, words):
    (sentence,) = missing_packages(block)
    assert words in sentence and "pip install" in sentence
    with pytest.raises(UserError, match="not installed here"):
        refuse_missing_packages(block)


@pytest.mark.usefixtures("nothing_is_installed")
def test_missing_packages_of_a_block_that_needs_none_are_none():
    block = {"optim": "adamw_torch_fused", "use_vllm": False, "model_init_kwargs": {"attn_implementation": "sdpa"}}
    assert missing_packages(block, Lora(**LORA)) == []
    assert missing_packages({"model_init_kwargs": None}) == []


@pytest.mark.usefixtures("nothing_is_installed")
def test_quantised_base_without_bitsandbytes_is_refused_before_anything_is_loaded():
    lora = Lora(**LORA, base_bits=4)
    assert len(missing_packages({}, lora)) == 1
    with pytest.raises(UserError, match=r"lora.base_bits: 4 needs the package bitsandbytes.*-e '\.\[gpu\]'"):
        lora.quantisation()


def test_kernels_from_the_hub_stand_in_for_flash_attention(monkeypatch):
    monkeypatch.setattr(trl_requirements, "_is_installed", lambda package: package == "kernels")
    assert missing_packages({"model_init_kwargs": {"attn_implementation": "flash_attention_2"}}) == []


def test_tensorboardx_stands_in_for_tensorboard(monkeypatch):
    monkeypatch.setattr(trl_requirements, "_is_installed", lambda package: package == "tensorboardX")
    assert missing_packages({"report_to": "tensorboard"}) == []


def test_optimisers_are_names_that_transformers_knows():
    from transformers.training_args import OptimizerNames

    names = {name for _, *group in OPTIMISERS.values() for name in group}
    assert names <= {one.value for one in OptimizerNames}
