"""Stage train_sft on a tiny model: what it writes, where it writes, how it resumes, what it refuses."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.train_sft import STAGE, TrainSftConfig, train_sft
from tests.tasks.training_inputs import (
    NUM_TRAIN,
    TRACES_PER_PROBLEM,
    checkpoint_of,
    folder,
    history_of,
    listing,
    make_base,
    make_problems,
    make_traces,
    parsed,
    run_and_ask_to_stop,
    run_and_kill,
)

# 48 traces in batches of 8: an epoch is 6 steps. save_steps becomes 4, a multiple of logging_steps.
SFT: dict[str, Any] = {
    "max_steps": 40,
    "per_device_train_batch_size": 8,
    "learning_rate": 3e-3,
    "max_length": 128,
    "bf16": False,
    "gradient_checkpointing": False,
    "logging_steps": 2,
    "save_steps": 3,
}
SECRET = "canary-4711"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sft")
    return {"model": make_base(root / "base"), "traces": make_traces(root / "traces", make_problems(root / "problems"))}


@pytest.fixture(scope="module")
def trained(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole run; the inputs untouched, no connection opened, a secret in the environment."""
    out = tmp_path_factory.mktemp("trained")
    before = listing(*inputs.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder(out / "home")))
        patch.setenv("SWANLAB_API_KEY", SECRET)
        patch.setattr(socket.socket, "connect", _refuse)
        train_sft(parsed(TrainSftConfig, sft=SFT, seed=0), out=out, **inputs)
    assert listing(*inputs.values()) == before
    assert not list((out / "home").rglob("*"))
    return out


def test_train_sft_checkpoint_loads_with_tokenizer_and_template(trained: Path, inputs: dict[str, Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(trained / "model")
    tokenizer, given = (AutoTokenizer.from_pretrained(root / "model") for root in (trained, inputs["model"]))
    assert tokenizer.get_vocab() == given.get_vocab() and tokenizer.chat_template == given.chat_template
    assert model.config.vocab_size == len(tokenizer)
    assert not list((trained / "model").glob("*.bin"))


def test_train_sft_history_has_a_row_per_log_with_falling_loss(trained: Path) -> None:
    rows = history_of(trained)
    assert [row["step"] for row in rows] == list(range(2, 41, 2))
    assert {"loss", "grad_norm", "learning_rate", "mean_token_accuracy", "num_tokens"} <= rows[0].keys()
    assert rows[-1]["loss"] < rows[0]["loss"] - 1


def test_train_sft_metrics_say_what_was_trained(trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["num_steps"] == 40 and metrics["resumed_from_step"] == 0
    assert metrics["num_traces"] == metrics["num_trained_on"] == NUM_TRAIN * TRACES_PER_PROBLEM
    rows = history_of(trained)
    assert metrics["loss_first"] == rows[0]["loss"]
    assert metrics["loss_last"] == pytest.approx((rows[-1]["loss"] + rows[-2]["loss"]) / 2)
    assert metrics["mean_token_accuracy_last"] > metrics["mean_token_accuracy_first"]
    assert metrics["train_wall_s"] > 0 and metrics["peak_memory_gb"] > 0


def test_train_sft_swanlog_is_kept_without_secrets(trained: Path) -> None:
    files = [path for path in (trained / "swanlog").rglob("*") if path.is_file()]
    assert any(path.suffix == ".swanlab" and path.stat().st_size > 1000 for path in files)
    assert not [path for path in trained.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_train_sft_killed_and_resumed_equals_uninterrupted(
    trained: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = {"sft": SFT, "seed": 0}
    run_and_kill(STAGE, config, inputs, tmp_path, "checkpoint-8")
    folder(tmp_path / "work" / "checkpoints" / "checkpoint-39")  # what a kill in the middle of a save leaves
    train_sft(parsed(TrainSftConfig, **config), out=tmp_path, **inputs)
    assert json.loads((tmp_path / "metrics.json").read_text())["resumed_from_step"] in range(8, 36, 4)
    ours, wanted = (_without_python_draws(checkpoint_of(out, 36)) for out in (tmp_path, trained))
    assert ours == wanted
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (
        trained / "model" / "model.safetensors"
    ).read_bytes()
    assert history_of(tmp_path) == history_of(trained)


def _without_python_draws(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Threads that other tests left in this process draw from Python's generator: test_exact_resume.py has its own."""
    return {path: value for path, value in checkpoint.items() if not path.startswith("/rng/python")}


def test_train_sft_paused_and_resumed_equals_uninterrupted(
    trained: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    def train() -> None:
        train_sft(parsed(TrainSftConfig, sft=SFT, seed=0), out=tmp_path, **inputs)

    goes_on = "when asked to stop; the next start goes on from there"
    assert run_and_ask_to_stop(train, tmp_path, at_step=13) == f"saved at step 14 of 40 {goes_on}"
    assert not (tmp_path / "model").exists() and not (tmp_path / "history.jsonl").exists()
    assert run_and_ask_to_stop(train, tmp_path, at_step=30) == f"saved at step 30 of 40 {goes_on}"  # an epoch's end
    assert run_and_ask_to_stop(train, tmp_path, at_step=39) == "", "the next step is the last: it may as well finish"
    assert json.loads((tmp_path / "metrics.json").read_text())["resumed_from_step"] == 30
    assert history_of(tmp_path) == history_of(trained)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (
        trained / "model" / "model.safetensors"
    ).read_bytes()


def test_train_sft_that_logs_by_epoch_pauses_at_the_end_of_one(inputs: dict[str, Path], tmp_path: Path) -> None:
    sft = SFT | {"max_steps": 15, "logging_strategy": "epoch"}

    def train_in(out: Path) -> None:
        train_sft(parsed(TrainSftConfig, sft=sft, seed=0), out=folder(out), **inputs)

    whole, paused = tmp_path / "whole", tmp_path / "paused"
    train_in(whole)
    assert run_and_ask_to_stop(lambda: train_in(paused), paused, at_step=1).startswith("saved at step 6 of 15")
    train_in(paused)
    assert history_of(paused) == history_of(whole) and len(history_of(whole)) == 3
    assert (paused / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()


def test_train_sft_lora_merges_the_adapter_into_the_model(inputs: dict[str, Path], tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lora = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
    config = parsed(TrainSftConfig, sft=SFT | {"max_steps": 6, "logging_steps": 3}, lora=lora, seed=0)
    train_sft(config, out=tmp_path, **inputs)
    base, merged = (AutoModelForCausalLM.from_pretrained(root / "model").eval() for root in (inputs["model"], tmp_path))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = tokenizer("3 5 7 -> 20 <think> 3 + 5", return_tensors="pt").input_ids
    with torch.no_grad():
        before, after = base(ids).logits, merged(ids).logits
        adapted = PeftModel.from_pretrained(base, tmp_path / "adapter")(ids).logits
    assert not torch.allclose(before, after, atol=1e-3)
    assert torch.allclose(after, adapted, atol=1e-5)
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] is None  # no path of the machine that trained
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert "adapter_model.safetensors" in names and not names & {"training_args.bin", "README.md"}


def test_train_sft_empty_traces_is_the_users_error(inputs: dict[str, Path], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(inputs["traces"] / "traces.parquet")
    pq.write_table(table.slice(0, 0), folder(tmp_path / "none") / "traces.parquet")
    with pytest.raises(UserError, match=r"traces\.parquet is empty: no trace survived"):
        train_sft(
            parsed(TrainSftConfig, sft=SFT, seed=0), out=tmp_path, model=inputs["model"], traces=tmp_path / "none"
        )


def test_train_sft_without_chat_template_names_the_key(inputs: dict[str, Path], tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    (base / "model" / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template: set chat_template in the fetch_model stage"):
        train_sft(parsed(TrainSftConfig, sft=SFT, seed=0), out=tmp_path, model=base, traces=inputs["traces"])


def _refuse(*arguments: Any) -> None:
    raise AssertionError(f"a training run opened a connection: {arguments}")
