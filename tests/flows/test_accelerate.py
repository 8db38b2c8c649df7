"""`resources.accelerate`: found, carried to the command, refused where it cannot work."""

import json
from pathlib import Path

import pytest

from flows.accelerate import CONFIGS, list_configs, with_launch_config
from flows.recipe import load_recipe
from slurm.resources import Resources
from tasks.core.errors import UserError
from tasks.prepare_data import STAGE as PREPARE
from tasks.train_sft import STAGE as SFT
from tasks.train_sft import TrainSftConfig

LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj"]}


def resolved(accelerate, lora=None, stage=SFT, **sft):
    values = {"sft": {"max_steps": 1} | sft, "seed": 0} | ({"lora": lora} if lora else {})
    config = TrainSftConfig.model_validate_json(json.dumps(values))
    return with_launch_config(stage, config, Resources(gpus=2, accelerate=accelerate)).accelerate


def test_configs_are_those_that_the_docs_name():
    assert [path.stem for path in list_configs()] == ["ddp", "fsdp", "zero2", "zero3", "zero3_offload"]


@pytest.mark.parametrize("name", ["ddp", "zero2", "zero3", "zero3_offload", "fsdp", "zero3.yaml"])
def test_name_becomes_the_path_of_the_projects_file(name):
    assert resolved(name) == str(CONFIGS / f"{name.removesuffix('.yaml')}.yaml")


@pytest.mark.parametrize("path", list_configs(), ids=lambda path: path.stem)
def test_config_is_one_that_accelerate_reads(path):
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(path)).num_processes == -1  # the launcher's to say


def test_path_of_ones_own_file_is_taken_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("distributed_type: FSDP\n")
    monkeypatch.chdir(tmp_path)
    assert resolved("mine.yaml") == resolved(str(tmp_path / "mine.yaml")) == str(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"accelerate": "zero33"},
            r"is 'zero33', which does not exist\. Did you mean zero3\? .*accelerate: ddp, fsdp,",
        ),
        ({"accelerate": "zero3", "stage": PREPARE}, "is for trainings, but prepare_data runs as one process"),
        ({"accelerate": "zero3", "deepspeed": "ds.json"}, "is 'zero3', but sft.deepspeed says the same in another way"),
        ({"accelerate": "ddp", "fsdp": True}, "but sft.fsdp says the same"),
        ({"accelerate": "zero3", "lora": LORA | {"base_bits": 4}}, "lora.base_bits is 4, and quantised weights are"),
        ({"accelerate": "fsdp", "lora": LORA | {"base_bits": 8}}, "use ddp or zero2"),
    ],
)
def test_config_that_cannot_work_is_refused(given, words):
    with pytest.raises(UserError, match=words):
        resolved(**given)


@pytest.mark.parametrize("name", ["ddp", "zero2"])
def test_quantised_base_goes_with_whole_weights(name):
    assert resolved(name, LORA | {"base_bits": 4})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("distributed_type: XLA\n", "distributed_type is 'XLA': allowed are MULTI_GPU, DEEPSPEED, FSDP"),
        ("num_processes: 2\n", "distributed_type is None"),
        ("- a\n", "is a mapping: write distributed_type"),
        (
            "distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 3}\n",
            "zero3_save_16bit_model: true, without which no checkpoint",
        ),
    ],
)
def test_file_of_another_kind_is_refused(tmp_path, text, words):
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        resolved(str(tmp_path / "odd.yaml"))


def test_recipe_tells_the_line_of_a_config_that_is_not_there(toy_recipe):
    with pytest.raises(UserError, match=r"stages\.rl\.resources\.accelerate is 'zero4', which does not exist"):
        load_recipe(toy_recipe, ["rl.resources.accelerate=zero4"])


def test_recipe_carries_the_path_and_the_identity_does_not(toy_recipe):
    rl = {one.name: one for one in load_recipe(toy_recipe, ["rl.resources.accelerate=zero3"]).stages}["rl"]
    assert rl.resources.accelerate == str(CONFIGS / "zero3.yaml")
    assert Path(rl.resources.accelerate).is_file() and "accelerate" not in json.dumps(rl.config.identity())
