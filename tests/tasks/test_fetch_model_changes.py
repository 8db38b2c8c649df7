"""fetch_model's changes of a checkpoint: keys of its config, the chat template, the prefill and the end token."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.errors import UserError
from tasks.fetch_model import FetchModelConfig, fetch_model
from tests.tasks.training_inputs import SHAPE, folder, make_base, parsed

BYTES = {key: value for key, value in SHAPE.items() if key != "max_integer"} | {
    "vocabulary": "bytes",
    "architecture": "qwen2",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = folder(tmp_path_factory.mktemp("base"))
    fetch_model(parsed(FetchModelConfig, source="scratch", scratch=BYTES, seed=0), out=out)
    return out / "model"


def changed(base: Path, out: Path, **changes: Any) -> Path:
    fetch_model(parsed(FetchModelConfig, source="local", path=str(base), **changes), out=folder(out))
    return out / "model"


def test_fetch_model_rope_theta_reaches_the_rotary_frequencies(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = changed(base, tmp_path, config_overrides={"rope_theta": 300000.0, "max_position_embeddings": 512})
    model = AutoModelForCausalLM.from_pretrained(path)
    # head_dim 16: frequency i is theta ** (-2i / 16)
    expected = [300000.0 ** (-i / 8) for i in range(8)]
    assert model.model.rotary_emb.inv_freq.tolist() == pytest.approx(expected, rel=1e-6)
    saved = json.loads((path / "config.json").read_text())
    assert saved["rope_parameters"] == {"rope_theta": 300000.0, "rope_type": "default"}
    assert (saved["max_position_embeddings"], AutoTokenizer.from_pretrained(path).model_max_length) == (512, 512)
    assert (path / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


def test_fetch_model_rope_theta_reaches_every_type_of_layer(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, Gemma3TextConfig

    from tasks.core.overrides import override_config

    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Gemma3TextConfig(**shape, num_key_value_heads=2, head_dim=8, vocab_size=32)
    model = AutoModelForCausalLM.from_config(config)
    override_config(model, None, {"rope_theta": 7.0})  # type: ignore[arg-type]  # the tokenizer is not touched
    assert {one["rope_theta"] for one in model.config.rope_parameters.values()} == {7.0}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rope_teta": 1.0}, r"config_overrides.rope_teta: a qwen2 config has no such key .*; nearest: rope_theta"),
        ({"model_type": "llama"}, "config_overrides.model_type: a qwen2 config has no such key"),
        ({"rope_theta": 0}, "rope_theta is 0, which the config refuses: it is a number above 0"),
        ({"rope_theta": "300k"}, "rope_theta is '300k', which the config refuses"),
        ({"max_position_embeddings": "long"}, "max_position_embeddings is 'long', which the config refuses"),
        ({"hidden_size": 64}, r"do not fit the weights: .* is \(.*\) in the checkpoint and would be"),
        ({"num_hidden_layers": 3}, "cannot be built: .*`num_hidden_layers` .3. must be equal"),
        ({"num_attention_heads": 0}, "cannot be built|which the config refuses|do not fit"),
    ],
)
def test_fetch_model_override_that_cannot_be_is_refused(
    base: Path, tmp_path: Path, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        changed(base, tmp_path, config_overrides=overrides)


def test_fetch_model_new_keys_are_identity_only_when_given(base: Path) -> None:
    old = parsed(FetchModelConfig, source="scratch", scratch=SHAPE, seed=0).identity()
    assert set(old) == {"source", "chat_template", "scratch", "seed"} and old["scratch"] == SHAPE
    new = {"prefill": "Well.", "eos_token": "<|end|>", "config_overrides": {"rope_theta": 2.0}}
    assert parsed(FetchModelConfig, source="scratch", scratch=SHAPE, seed=0, **new).identity() == old | new


def test_fetch_model_template_counts_by_its_text(base: Path) -> None:
    named = parsed(FetchModelConfig, source="local", path=str(base), chat_template="r1_zero")
    written = parsed(FetchModelConfig, source="local", path=str(base), chat_template=named.chat_template)
    assert named.identity() == written.identity() and "Assistant: <think>" in named.identity()["chat_template"]
    with pytest.raises(ValidationError, match="nearest: r1_zero"):
        parsed(FetchModelConfig, source="local", path=str(base), chat_template="r1-zero")


def test_fetch_model_prefill_and_end_token_are_in_the_checkpoint(base: Path, tmp_path: Path) -> None:
    from tasks.core.checkpoint import read_checkpoint

    path = changed(base, tmp_path, prefill="Let me see.\n<think>", eos_token="</answer>")
    checkpoint = read_checkpoint(path)
    text, ids = checkpoint.render([[{"role": "user", "content": "Why?"}]])[0]
    assert text == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nLet me see.\n<think>"
    assert checkpoint.tokenizer.decode(ids) == text
    assert [checkpoint.tokenizer.convert_ids_to_tokens(i) for i in checkpoint.end_ids] == ["</answer>"]


def test_fetch_model_end_token_outside_the_vocabulary_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="eos_token is '<eot>', which is no token of the tokenizer"):
        changed(base, tmp_path, eos_token="<eot>")


def test_fetch_model_prefill_on_a_template_that_cuts_thoughts_is_refused(base: Path, tmp_path: Path) -> None:
    template = (files("trl") / "chat_templates" / "qwen3.jinja").read_text()
    with pytest.raises(UserError, match=r"takes an assistant's text apart.*set chat_template as well, such as chatml"):
        changed(base, tmp_path, chat_template=template, prefill="Well.\n<think>")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"vocabulary": "bytes"}, "leave max_integer out"), ({"max_integer": None}, "add max_integer")],
)
def test_scratch_vocabulary_and_max_integer_go_together(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parsed(FetchModelConfig, source="scratch", seed=0, scratch=SHAPE | change)


def test_fetch_model_old_fingerprint_is_unchanged(tmp_path: Path) -> None:
    # The identity that the first release wrote for this config.
    identity = parsed(FetchModelConfig, source="scratch", scratch=SHAPE, seed=0).identity()
    assert identity == {"source": "scratch", "scratch": SHAPE, "seed": 0, "chat_template": None}
    assert (make_base(tmp_path) / "model" / "config.json").is_file()
