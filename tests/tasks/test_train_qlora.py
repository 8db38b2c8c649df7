"""Adapters over a base of 4 bits, on bitsandbytes' CPU code: what is trained, what comes out, what vLLM would get."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.train_sft import TrainSftConfig, train_sft
from tests.tasks.training_inputs import folder, history_of, make_base, make_problems, make_traces, parsed

pytest.importorskip("bitsandbytes", reason="bitsandbytes (125 MB, in the gpu extra) is what quantises the base")

LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"], "base_bits": 4}
SFT: dict[str, Any] = {
    "max_steps": 8,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-2,
    "max_length": 128,
    "bf16": False,
    "gradient_checkpointing": True,
    "logging_steps": 2,
    "save_strategy": "no",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("qlora") / "base")


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    traces = make_traces(root / "traces", make_problems(root / "problems"))
    config = parsed(TrainSftConfig, sft=SFT, seed=0, lora=LORA)
    train_sft(config, out=folder(root / "out"), model=base, traces=traces)
    return root / "out"


def test_qlora_learns_and_merges_into_the_full_base(trained: Path, base: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    rows = history_of(trained)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert "quantization_config" not in json.loads((trained / "model" / "config.json").read_text())
    full, merged = (AutoModelForCausalLM.from_pretrained(root / "model") for root in (base, trained))
    assert merged.dtype == full.dtype
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        before, after = full(ids).logits, merged(ids).logits
        adapted = PeftModel.from_pretrained(full, trained / "adapter")(ids).logits
    assert not torch.allclose(before, after, atol=1e-3)
    assert torch.allclose(after, adapted, atol=1e-5)


def test_vllm_gets_the_dequantised_base_with_the_adapter_added(trained: Path, base: Path) -> None:
    import bitsandbytes
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    from tasks.core.lora import Lora
    from tasks.core.quantised_rollouts import full_weights

    quantised = AutoModelForCausalLM.from_pretrained(
        base / "model", quantization_config=parsed(Lora, **LORA).quantisation()
    )
    model = PeftModel.from_pretrained(quantised, trained / "adapter")
    sent = dict(full_weights(model))
    checkpoint, merged = (load_file(root / "model" / "model.safetensors") for root in (base, trained))
    assert sent.keys() == checkpoint.keys()
    name = "model.layers.0.self_attn.q_proj.weight"
    layer = quantised.get_submodule(name.removesuffix(".weight")).base_layer
    assert isinstance(layer, bitsandbytes.nn.Linear4bit)
    dequantised = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    adapter = merged[name] - checkpoint[name]
    assert sent[name].shape == merged[name].shape and adapter.abs().max() > 1e-3
    torch.testing.assert_close(sent[name].float(), dequantised.float() + adapter, atol=1e-3, rtol=1e-2)
    assert torch.equal(sent["model.norm.weight"].float(), checkpoint["model.norm.weight"])
    again = dict(full_weights(model))
    assert all(torch.equal(sent[key], again[key]) for key in sent)  # the model is left as it is
