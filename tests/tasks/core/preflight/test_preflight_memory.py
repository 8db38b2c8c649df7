"""Parameters and memory from a config: published counts, numbers worked by hand, and what autograd really keeps."""

import json
from pathlib import Path

import pytest

from tasks.core.preflight.memory import (
    GIB,
    estimate,
    layer_bytes,
    optimizer_bytes,
    residual_bytes,
    trainable_parameters,
)
from tasks.core.preflight.memory_check import check_memory
from tasks.core.preflight.model_shape import ModelShape, read_shape, shape_of_config
from tasks.core.preflight.sharding import Sharding, sharding_of
from tasks.core.preflight.training import Adapters, Training

QWEN_3B = {
    "model_type": "qwen2", "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
    "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
    "max_position_embeddings": 32768, "torch_dtype": "bfloat16",
}  # fmt: skip
QWEN_7B = QWEN_3B | {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
}  # fmt: skip
LLAMA_8B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip
QWEN3_06B = {
    "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "head_dim": 128,
    "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8,
}  # fmt: skip
ALONE = Sharding("none", 1)


def shape(config) -> ModelShape:
    found = shape_of_config(config)
    assert found is not None
    return found


def parts(training: Training, sharding: Sharding = ALONE, config=QWEN_7B, prompt_tokens: int = 100, gpu_gb=None):
    """Name of each part → GiB."""
    return {one.name: one.gb for one in estimate(training, shape(config), sharding, prompt_tokens, gpu_gb).parts}


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (QWEN_3B, 3_085_938_688), (QWEN_7B, 7_615_616_512), (LLAMA_8B, 8_030_261_248), (QWEN3_06B, 596_049_920),
        (MIXTRAL, 46_702_792_704),
    ],
)  # fmt: skip
def test_parameters_of_published_models(config, published):
    assert shape(config).num_parameters == published


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("is_tied", [True, False])
def test_parameters_agree_with_transformers(kind, is_tied):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        kind, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=32, vocab_size=128, tie_word_embeddings=is_tied,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert shape(config.to_dict()).num_parameters == model.num_parameters()


def test_parameters_come_from_the_weights_where_they_are(tmp_path: Path):
    import torch
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text(json.dumps(QWEN_3B | {"model_type": "unheard_of"}))
    guessed = read_shape(tmp_path)
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7)}, tmp_path / "model.safetensors")
    exact = read_shape(tmp_path)
    assert guessed and not guessed.is_exact
    assert exact and exact.num_parameters == 22 and exact.is_exact


def test_context_follows_overrides_and_stretching():
    assert shape(QWEN_3B | {"max_position_embeddings": 4096}).context == 4096
    stretched = {"rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768}}
    assert shape(QWEN_3B | stretched).context == 131072
    assert shape_of_config({"model_type": "gpt2", "n_embd": 768}) is None


def test_states_of_full_training_are_sixteen_bytes_a_parameter():
    # float32 weights 4 + gradients 4 + AdamW's two moments 8, of 7.6 B parameters: 28.4, 28.4 and 56.7 GiB.
    found = parts(Training("sft", {}))
    unit = 7_615_616_512 / GIB
    assert found["weights"] == found["gradients"] == pytest.approx(4 * unit)
    assert found["optimizer"] == pytest.approx(8 * unit)
    assert found["16-bit copies of the weights"] == pytest.approx(2 * unit)


def test_states_in_16_bits_with_an_8_bit_optimizer_are_six_bytes():
    found = parts(Training("sft", {"model_init_kwargs": {"dtype": "bfloat16"}, "optim": "adamw_8bit"}))
    unit = 7_615_616_512 / GIB
    assert found["weights"] + found["gradients"] + found["optimizer"] == pytest.approx(6 * unit)
    assert "16-bit copies of the weights" not in found


def test_states_under_zero_are_shared_out():
    # arXiv:1910.02054, section 3: (2 + 2 + 12) bytes over 8 GPUs at stage 3; weights whole at stage 2.
    unit = 7_615_616_512 / GIB
    third = parts(Training("sft", {}), Sharding("zero", 8, 3))
    assert third["weights"] + third["gradients"] + third["optimizer"] == pytest.approx(16 * unit / 8)
    second = parts(Training("sft", {}), Sharding("zero", 8, 2))
    assert second["weights"] == pytest.approx(2 * unit)
    assert second["optimizer"] == pytest.approx(12 * unit / 8)
    offloaded = parts(Training("sft", {}), Sharding("zero", 8, 3, True, True))
    assert "weights" not in offloaded and "optimizer" not in offloaded


def test_states_of_qlora_are_the_adapters_and_half_a_byte_of_the_base():
    lora = Adapters(64, ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), 4)
    # A layer: 64 x ((2048+2048) x 2 [q, o] + (2048+256) x 2 [k, v] + (2048+11008) x 3 [gate, up, down]) = 3,325,952
    assert trainable_parameters(Training("grpo", {}, lora=lora), shape(QWEN_3B)) == 36 * 3_325_952
    found = parts(Training("grpo", {}, lora=lora), config=QWEN_3B)
    linear, embeddings = 3_085_938_688 - 311_164_928, 311_164_928
    base = linear * 4.127 / 8 + embeddings * 2
    assert found["weights"] == pytest.approx((base + 36 * 3_325_952 * 4) / GIB)
    assert found["optimizer"] == pytest.approx(36 * 3_325_952 * 8 / GIB)


def test_reference_model_is_there_with_beta_and_without_adapters():
    assert parts(Training("grpo", {"beta": 0.001}))["reference model"] == pytest.approx(4 * 7_615_616_512 / GIB)
    assert "reference model" not in parts(Training("grpo", {}))
    assert "reference model" not in parts(Training("grpo", {"beta": 0.001}, lora=Adapters(8, ("q_proj",))))


def test_critic_of_ppo_doubles_the_states():
    grpo, ppo = parts(Training("grpo", {})), parts(Training("ppo", {}))
    assert ppo["weights of policy and critic"] == pytest.approx(2 * grpo["weights"])
    assert ppo["optimizer of policy and critic"] == pytest.approx(2 * grpo["optimizer"])


@pytest.mark.parametrize(
    ("optim", "expected"),
    [
        ("adamw_torch_fused", 8), ("paged_adamw_8bit", 2), ("adamw_bnb_8bit", 2), ("adamw_torch_4bit", 1), ("sgd", 0),
        ("adafactor", 0), ("lion_32bit", 4),
    ],
)  # fmt: skip
def test_optimizer_bytes_of_float32_parameters(optim, expected):
    assert optimizer_bytes(optim, 4) == expected


def test_keys_and_values_are_of_the_whole_generation_batch():
    # 8 x 4 completions x (100 + 412) tokens x 36 layers x 256 (2 heads of 128) x (4 + 2) bytes, keys in float32.
    training = Training("grpo", {"gradient_accumulation_steps": 4, "max_completion_length": 412})
    expected = 32 * 512 * 36 * 256 * 6 / GIB
    assert parts(training, config=QWEN_3B)["keys and values"] == pytest.approx(expected)


def test_vllm_beside_the_training_takes_its_share():
    training = Training("grpo", {"use_vllm": True, "vllm_gpu_memory_utilization": 0.4})
    assert parts(training, gpu_gb=24.0)["vLLM"] == pytest.approx(9.6)
    assert "keys and values" not in parts(training, gpu_gb=24.0)


def test_sharding_is_read_from_accelerate_and_from_trls_keys():
    zero = "distributed_type: DEEPSPEED\ndeepspeed_config:\n  zero_stage: 3\n  offload_optimizer_device: cpu\n"
    assert sharding_of({}, zero, 4) == Sharding("zero", 4, 3, True, False)
    assert sharding_of({}, "distributed_type: MULTI_GPU", 4) == Sharding("ddp", 4)
    assert sharding_of({}, "distributed_type: FSDP\nfsdp_config:\n  fsdp_offload_params: false\n", 2).stage == 3
    block = {"deepspeed": {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}}
    assert sharding_of(block, None, 4) == Sharding("zero", 4, 2, True, False)
    assert sharding_of({"fsdp": "full_shard auto_wrap"}, None, 4) == Sharding("fsdp", 4, 3)


def findings(training: Training, gpu_gb: float, config=QWEN_7B):
    return list(check_memory(training, shape(config), ALONE, 256, gpu_gb))


def test_memory_full_training_of_7b_on_24_gb_is_refused_with_what_would_fit():
    (found,) = findings(Training("sft", {}), 24)
    assert found.level == "refuse"
    assert "alone need 113.5 GiB a GPU, which has 24" in found.text
    assert "a `lora` with base_bits: 4 (QLoRA)" in found.text
    assert "zero3 on 8" not in found.text  # 16 bytes x 7.6 B / 8 = 14.2 GiB of states, and 16 more to work with


def test_memory_full_training_of_7b_on_80_gb_is_told_that_several_gpus_would_do():
    (found,) = findings(Training("sft", {}), 80)
    assert found.level == "refuse" and "zero3 on 2 training GPUs" in found.text


def test_memory_of_qlora_3b_fits_24_gb():
    lora = Adapters(64, ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), 4)
    block = {"use_vllm": True, "vllm_gpu_memory_utilization": 0.4, "per_device_train_batch_size": 1}
    block |= {"num_generations": 4, "gradient_accumulation_steps": 4, "max_completion_length": 1024}
    assert findings(Training("grpo", block, lora=lora), 24, QWEN_3B) == []


def test_memory_vllm_share_smaller_than_the_weights_is_refused():
    lora = Adapters(8, ("q_proj",), 4)
    found = findings(Training("grpo", {"use_vllm": True, "vllm_gpu_memory_utilization": 0.2}, lora=lora), 24)
    assert any("its copy of the weights alone is 14.2: give 0.69 or more" in one.text for one in found)
    beside = Training("grpo", {"use_vllm": True, "vllm_mode": "server"}, vllm_gpus=1, lora=lora)
    assert [one.level for one in findings(beside, 12)] and "raise vllm_gpus" in findings(beside, 12)[-1].text


@pytest.mark.parametrize(
    ("dtype", "bf16"), [("float32", True), ("bfloat16", True), ("float32", False)], ids=["autocast", "bf16", "float32"]
)
def test_activations_are_what_autograd_keeps(dtype, bf16):
    import torch
    from transformers import LlamaConfig, LlamaModel

    def kept(num_layers: int) -> int:
        """Bytes of all tensors saved for the backward pass, weights and 16-bit copies of them left out."""
        config = LlamaConfig(
            hidden_size=64, intermediate_size=160, num_hidden_layers=num_layers, num_attention_heads=4, head_dim=32,
            num_key_value_heads=2, vocab_size=32,
        )  # fmt: skip
        model = LlamaModel(config).to(getattr(torch, dtype)).train()
        weights = {weight.data_ptr() for weight in model.parameters()}
        shapes = {tuple(weight.shape) for weight in model.parameters() if weight.dim() == 2}
        saved: dict[int, torch.Tensor] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            is_copy = tensor.dim() == 2 and {tuple(tensor.shape), tuple(tensor.t().shape)} & shapes
            if tensor.untyped_storage().data_ptr() not in weights and not is_copy:
                saved[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        ids = torch.ones(2, 48, dtype=torch.long)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                model(ids, attention_mask=torch.ones_like(ids), use_cache=False)
        return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())

    tiny = shape({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 1, "head_dim": 32,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 32,
    })  # fmt: skip
    training = Training("sft", {"bf16": bf16, "model_init_kwargs": {"dtype": dtype}})
    measured = (kept(3) - kept(1)) / 2 / (2 * 48)
    assert measured == pytest.approx(layer_bytes(training, tiny, 48, residual_bytes(training, tiny, ALONE)), rel=0.02)
