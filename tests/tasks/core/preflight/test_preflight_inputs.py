"""Lengths, rewards against data, chat templates, packages, GPUs and disk, without torch."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tasks.core.preflight import disk, gpu, packages
from tasks.core.preflight.disk import check_disk
from tasks.core.preflight.gpu import Gpu, check_gpus, visible_gpus
from tasks.core.preflight.lengths import PromptLengths, check_lengths, measure_prompts
from tasks.core.preflight.model_shape import ModelShape, shape_of_config
from tasks.core.preflight.packages import check_packages
from tasks.core.preflight.problems import Problems, check_rewards
from tasks.core.preflight.sharding import Sharding
from tasks.core.preflight.template import judge_text, render
from tasks.core.preflight.training import Adapters, Training
from tests.tasks.training_inputs import make_base

TINY = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 1000,
    "num_attention_heads": 4, "max_position_embeddings": 1024,
}  # fmt: skip
PROMPT = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "1 2 3 -> 6"}]


def model(**changes) -> ModelShape:
    shape = shape_of_config(TINY | changes)
    assert shape is not None
    return shape


def said(findings) -> list[tuple[str, str]]:
    return [(one.level, one.text) for one in findings]


def test_completion_as_long_as_the_context_is_refused():
    training = Training("grpo", {"max_completion_length": 1024})
    ((level, text),) = said(check_lengths(training, model(), None))
    assert level == "refuse" and "the model's context is 1024 tokens: give at most 1023" in text
    assert said(check_lengths(training, model(max_position_embeddings=4096), None)) == []


def test_completion_that_fits_some_prompts_only_is_warned_of():
    training = Training("grpo", {"max_completion_length": 900})
    ((level, text),) = said(check_lengths(training, model(), PromptLengths(20, 200)))
    assert level == "warn" and "about 200 tokens" in text and "give at most 824" in text
    assert said(check_lengths(training, model(), PromptLengths(20, 124))) == []
    assert said(check_lengths(training, model(), PromptLengths(125, 200)))[0][0] == "refuse"


def test_vllm_limit_below_the_completion_or_above_the_context_is_refused():
    block = {"use_vllm": True, "max_completion_length": 512, "vllm_max_model_length": 512}
    assert "vllm_max_model_length is 512" in said(check_lengths(Training("grpo", block), None, None))[0][1]
    block |= {"vllm_max_model_length": 2048}
    assert "give 1024 or less" in said(check_lengths(Training("grpo", block), model(), None))[0][1]


def test_sft_beyond_the_context_is_warned_of():
    ((level, text),) = said(check_lengths(Training("sft", {"max_length": 32768}), model(), None))
    assert level == "warn" and "config_overrides" in text


def test_prompts_are_measured_with_the_models_own_tokenizer(tmp_path: Path):
    checkpoint = make_base(tmp_path) / "model"
    found = measure_prompts(checkpoint, ["1 2 3 -> 6", "1 2", "1"])
    assert found == PromptLengths(1 + 16, 5 + 16)  # a word is a token; 16 for the template
    assert measure_prompts(tmp_path, ["1"]) is None and measure_prompts(checkpoint, []) is None


def problems(tasks: dict[str, int], num_without_gold: int = 0) -> Problems:
    return Problems(Counter(tasks), num_without_gold, (PROMPT,))


def test_countdown_reward_without_countdown_problems_is_refused():
    training = Training("grpo", {}, rewards={"countdown": 1.0})
    ((level, text),) = said(check_rewards(training, problems({"math": 10})))
    assert level == "refuse" and "math (10)" in text and "take the reward accuracy" in text
    both = Training("grpo", {}, rewards={"countdown": 1.0, "format": 0.5})
    assert said(check_rewards(both, problems({"math": 10})))[0][0] == "warn"
    assert "scores 4 of 10" in said(check_rewards(training, problems({"math": 6, "countdown": 4})))[0][1]
    assert said(check_rewards(training, problems({"countdown": 4}))) == []


def test_accuracy_without_golds_is_refused():
    training = Training("grpo", {}, rewards={"accuracy": 1.0})
    assert said(check_rewards(training, problems({"math": 3}, 3)))[0][0] == "refuse"
    assert said(check_rewards(training, problems({"math": 3}, 1)))[0][0] == "warn"
    assert said(check_rewards(training, problems({"math": 3}))) == []


def write_template(directory: Path, text: str) -> Path:
    settings = {"chat_template": text, "bos_token": "<s>", "eos_token": {"content": "</s>"}}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


LOOP = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}{{ eos_token }}\n{% endfor %}"
)


def test_template_is_rendered_as_transformers_does(tmp_path: Path):
    tail = "{% if add_generation_prompt %}assistant: <think>{% endif %}"
    rendered = render(write_template(tmp_path, LOOP + tail), PROMPT)
    assert rendered == "<s>system: Be terse.</s>\nuser: 1 2 3 -> 6</s>\nassistant: <think>"
    assert render(write_template(tmp_path, "{{ raise_exception('no') }}"), PROMPT) is None


def test_template_of_a_real_tokenizer_renders_the_same(tmp_path: Path):
    from transformers import AutoTokenizer

    checkpoint = make_base(tmp_path, chat_template="chatml") / "model"
    theirs = AutoTokenizer.from_pretrained(checkpoint).apply_chat_template(
        PROMPT, add_generation_prompt=True, tokenize=False
    )
    assert render(checkpoint, PROMPT) == theirs


def test_thought_is_open_must_fit_the_template():
    rendered = "user: 1 2 3 -> 6 Be terse. assistant: <think>\n"
    ((level, text),) = said(judge_text(rendered, PROMPT, {"format": 1.0, "accuracy": 1.0}))
    assert level == "refuse" and "thought_is_open is false, but the generation prompt ends in <think>" in text
    assert said(judge_text(rendered, PROMPT, {"format": {"weight": 1.0, "thought_is_open": True}})) == []
    ((_, text),) = said(judge_text(rendered[:-9], PROMPT, {"format": {"weight": 1.0, "thought_is_open": True}}))
    assert "does not end in <think>" in text


def test_template_that_drops_a_message_is_told():
    ((level, text),) = said(judge_text("user: 1 2 3 -> 6", PROMPT, {}))
    assert level == "warn" and "drops the system message" in text
    assert said(judge_text("Be terse.", PROMPT, {}))[0][0] == "refuse"


def test_missing_packages_are_refused_with_the_command(monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    block = {"model_init_kwargs": {"attn_implementation": "flash_attention_2"}, "optim": "paged_adamw_8bit"}
    block |= {"use_liger_kernel": True}
    training = Training("grpo", block, lora=Adapters(8, ("q_proj",), 4))
    text = "\n".join(text for _, text in said(check_packages(training, Sharding("zero", 2, 3))))
    for word in ("pip install flash-attn", "optim: paged_adamw_8bit", "liger-kernel", "base_bits", "deepspeed"):
        assert word in text
    assert all(one.of_machine for one in check_packages(training, Sharding("none", 1)))


def test_gpus_are_read_from_nvidia_smi(monkeypatch, tmp_path: Path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Tesla V100-SXM2-32GB, 32768, 7.0'\necho 'NVIDIA A100, 81920, 8.0'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = visible_gpus()
    assert found == [Gpu("Tesla V100-SXM2-32GB", 32.0, 7.0), Gpu("NVIDIA A100", 80.0, 8.0)]
    texts = said(check_gpus(Training("sft", {}), found, 4))
    assert texts[0] == ("warn", "resources.gpus is 4, but nvidia-smi shows 2 here.")
    assert "has no bfloat16: set bf16: false and fp16: true" in texts[1][1]
    assert said(check_gpus(Training("sft", {"fp16": True}), found, 2)) == []
    program.write_text("#!/bin/sh\nexit 9\n")
    assert visible_gpus() == []


def test_gpus_without_nvidia_smi_are_none(monkeypatch):
    monkeypatch.setattr(gpu.shutil, "which", lambda name: None)
    assert visible_gpus() == []


@pytest.mark.parametrize(("free", "level"), [(1.0, "note"), (0.0001, "refuse")])
def test_disk_too_small_for_the_checkpoints_is_refused(monkeypatch, tmp_path: Path, free, level):
    # 1000 x 64 x 2 + 4 x 64 x 64 + 3 x 64 x 64 + 3 x 64 = 156,864 parameters: three checkpoints of 12 bytes, a model.
    monkeypatch.setattr(disk, "free_gb", lambda path: free)
    ((found, text),) = said(check_disk(Training("grpo", {}), model(), Sharding("none", 1), tmp_path))
    assert found == level
    assert f"{(3 * 12 + 4) * 156_864 / 1e9:.1f} GB of disk" in text


def test_disk_that_the_weights_kept_on_the_way_would_fill_is_refused(monkeypatch, tmp_path: Path):
    """40 bytes a parameter as above are 6.3 MB; 100 steps keep the weights 10 times, 4 bytes each."""
    monkeypatch.setattr(disk, "free_gb", lambda path: 0.007)
    for every, level in ((None, "note"), (50, "refuse"), (10, "refuse")):
        training = Training("grpo", {"max_steps": 100}, keep_checkpoints_every=every)
        ((found, text),) = said(check_disk(training, model(), Sharding("none", 1), tmp_path))
        assert found == level and ("raise keep_checkpoints_every" in text) == (every is not None)
