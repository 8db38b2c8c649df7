"""Stage train_grpo on a tiny model that knows the format: rewards that run, exact resume, refusals."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tasks.core.errors import UserError
from tasks.core.rollouts import server_beside_us
from tasks.train_grpo import STAGE, TrainGrpoConfig, train_grpo
from tests.tasks.training_inputs import (
    folder,
    history_of,
    listing,
    make_taught,
    parsed,
    run_and_ask_to_stop,
    run_and_kill,
)

# 24 problems, 4 of them in a batch of 16 completions, each batch used for 2 steps: an epoch is 12 steps.
GRPO: dict[str, Any] = {
    "max_steps": 22,
    "per_device_train_batch_size": 16,
    "num_generations": 4,
    "num_iterations": 2,
    "max_completion_length": 40,
    "temperature": 1.0,
    "learning_rate": 1e-3,
    "beta": 0.0,
    "bf16": False,
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "save_steps": 3,
}
REWARDS: dict[str, Any] = {"countdown": 1.0, "format": 0.5, "thought_length": {"weight": 0.2, "full_at_chars": 100}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_taught(tmp_path_factory.mktemp("grpo"), 150)


@pytest.fixture(scope="module")
def trained(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole run, which leaves its inputs untouched."""
    out = tmp_path_factory.mktemp("trained")
    before = listing(*inputs.values())
    train_grpo(parsed(TrainGrpoConfig, grpo=GRPO, rewards=REWARDS, seed=0), out=out, **inputs)
    assert listing(*inputs.values()) == before
    return out


def test_train_grpo_writes_checkpoint_history_and_swanlog(trained: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoTokenizer.from_pretrained(trained / "model").chat_template
    assert AutoModelForCausalLM.from_pretrained(trained / "model").num_parameters() > 0
    assert list((trained / "swanlog").rglob("*.swanlab"))
    rows = history_of(trained)
    assert [row["step"] for row in rows] == list(range(1, 23))
    wanted = {"loss", "reward", "reward_std", "entropy", "grad_norm", "learning_rate", "completions/mean_length"}
    assert wanted | {f"rewards/{name}/mean" for name in REWARDS} <= rows[-2].keys()  # each second step reuses a batch
    assert rows[0]["reward_std"] > 0, "the groups are all alike, so this run tests nothing"


def test_train_grpo_reward_is_the_weighted_sum(trained: Path) -> None:
    for row in history_of(trained)[::2]:
        parts = [row[f"rewards/{name}/mean"] for name in ("countdown", "format", "thought_length")]
        assert row["reward"] == pytest.approx(1.0 * parts[0] + 0.5 * parts[1] + 0.2 * parts[2], abs=1e-6)


def test_train_grpo_metrics_summarise_the_history(trained: Path) -> None:
    metrics, rows = json.loads((trained / "metrics.json").read_text()), history_of(trained)
    assert metrics["num_steps"] == 22 and metrics["num_problems"] == 24
    assert metrics["reward_first"] == rows[0]["reward"]
    assert metrics["reward_last"] == rows[-2]["reward"]  # 11 logged rewards: the last tenth is one
    assert metrics["mean_length_first"] == rows[0]["completions/mean_length"]
    assert metrics["num_tokens"] == rows[-2]["num_tokens"]
    assert metrics["tokens_per_s"] == pytest.approx(metrics["num_tokens"] / metrics["train_wall_s"])
    assert metrics["peak_memory_gb"] > 0


def test_train_grpo_killed_in_second_epoch_and_resumed_equals_uninterrupted(
    trained: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = {"grpo": GRPO, "rewards": REWARDS, "seed": 0}
    run_and_kill(STAGE, config, inputs, tmp_path, "checkpoint-16")
    train_grpo(parsed(TrainGrpoConfig, **config), out=tmp_path, **inputs)
    assert json.loads((tmp_path / "metrics.json").read_text())["resumed_from_step"] in (16, 20)
    assert history_of(tmp_path) == history_of(trained)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (
        trained / "model" / "model.safetensors"
    ).read_bytes()
    assert pq.read_table(tmp_path / "completions.parquet").equals(pq.read_table(trained / "completions.parquet"))


def test_train_grpo_logs_what_each_completion_was_given(trained: Path) -> None:
    rows = pq.read_table(trained / "completions.parquet").to_pylist()
    assert [row["step"] for row in rows] == [step for step in range(1, 23, 2) for _ in range(16)]
    for logged in history_of(trained)[::2]:
        here = [row for row in rows if row["step"] == logged["step"]]
        assert logged["reward"] == pytest.approx(sum(row["reward"] for row in here) / 16)
        assert logged["rewards/format/mean"] == pytest.approx(sum(row["reward_format"] for row in here) / 16)
        assert logged["completions/mean_length"] == sum(row["num_tokens"] for row in here) / 16
        assert logged["completions/clipped_ratio"] == sum(row["is_truncated"] for row in here) / 16
        assert [row["verdict"] == "correct" for row in here] == [row["reward_countdown"] == 1 for row in here]
    assert all(row["is_used"] and row["task"] == "countdown" and row["verdict"] for row in rows)
    for i in range(0, len(rows), 4):  # TRL's default: the group's rewards, centred and scaled
        group = rows[i : i + 4]
        mean = sum(row["reward"] for row in group) / 4
        std = math.sqrt(sum((row["reward"] - mean) ** 2 for row in group) / 3)
        assert len({row["problem_id"] for row in group}) == 1
        advantages = [(row["reward"] - mean) / (std + 1e-4) for row in group]
        assert [row["advantage"] for row in group] == pytest.approx(advantages, abs=1e-4)


def test_train_grpo_paused_and_resumed_equals_uninterrupted(
    trained: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    def train() -> None:
        train_grpo(parsed(TrainGrpoConfig, grpo=GRPO, rewards=REWARDS, seed=0), out=tmp_path, **inputs)

    said = run_and_ask_to_stop(train, tmp_path, at_step=13)  # the second step on its completions comes after it
    assert said.startswith("saved at step 14 of 22 when asked to stop")
    assert not (tmp_path / "model").exists()
    train()
    assert json.loads((tmp_path / "metrics.json").read_text())["resumed_from_step"] == 14
    assert history_of(tmp_path) == history_of(trained)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (
        trained / "model" / "model.safetensors"
    ).read_bytes()


def test_train_grpo_accuracy_scores_math_rows(inputs: dict[str, Path], tmp_path: Path) -> None:
    _write_problems(folder(tmp_path / "problems"), task="math", answer="8", question="3 5 -> 8")
    grpo = GRPO | {"max_steps": 2, "num_iterations": 1}
    config = parsed(TrainGrpoConfig, grpo=grpo, rewards={"accuracy": 1.0, "countdown": 1.0}, seed=0)
    train_grpo(config, out=tmp_path, model=inputs["model"], problems=tmp_path / "problems")
    row = history_of(tmp_path)[0]
    assert 0 <= row["rewards/accuracy/mean"] <= 1 and row["reward"] == pytest.approx(row["rewards/accuracy/mean"])
    assert "rewards/countdown/mean" not in row  # None for every row of another task: a mean of nothing


def test_train_grpo_open_thought_counts_only_when_the_recipe_says_so(inputs: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    opened = tmp_path / "opened"
    folder(opened).joinpath("model").symlink_to(inputs["model"] / "model")
    tokenizer = AutoTokenizer.from_pretrained(inputs["model"] / "model")
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{% if add_generation_prompt %}<|assistant|> ", "{% if add_generation_prompt %}<|assistant|> <think> "
    )
    (opened / "model").unlink()
    _copy(inputs["model"] / "model", opened / "model")
    tokenizer.save_pretrained(opened / "model")
    arguments = {"out": tmp_path, "model": opened, "problems": inputs["problems"]}
    grpo = GRPO | {"max_steps": 1, "num_iterations": 1, "per_device_train_batch_size": 64, "num_generations": 16}
    with pytest.raises(UserError, match=r"rewards\.format\.thought_is_open is false, but .* ends in <think>"):
        train_grpo(parsed(TrainGrpoConfig, grpo=grpo, rewards={"format": 1.0}, seed=0), **arguments)
    rewards = {"format": {"weight": 1.0, "thought_is_open": True}}
    train_grpo(parsed(TrainGrpoConfig, grpo=grpo, rewards=rewards, seed=0), **arguments)
    assert history_of(tmp_path)[0]["rewards/format/mean"] > 0


def test_train_grpo_without_train_problems_is_the_users_error(inputs: dict[str, Path], tmp_path: Path) -> None:
    _write_problems(folder(tmp_path / "problems"), task="countdown", answer="{}", question="?", split="eval")
    with pytest.raises(UserError, match="no problem with split 'train': set num_train in prepare_data"):
        config = parsed(TrainGrpoConfig, grpo=GRPO, rewards=REWARDS, seed=0)
        train_grpo(config, out=tmp_path, model=inputs["model"], problems=tmp_path / "problems")


def test_train_grpo_contradicting_keys_are_the_users_error(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"TRL refuses the values under `grpo`: .*num_generations"):
        config = parsed(TrainGrpoConfig, grpo=GRPO | {"num_generations": 5}, rewards=REWARDS, seed=0)
        train_grpo(config, out=tmp_path, **inputs)


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ({"countdwn": 1.0}, r"rewards\.countdwn: no such reward\. Did you mean countdown\?"),
        ({"format": {"weight": 1.0, "thought_open": True}}, r"Did you mean thought_is_open\?"),
        ({"thought_length": 0.1}, r"rewards\.thought_length\.full_at_chars is missing"),
        ({"format": {"weight": 1.0, "thought_is_open": "yes"}}, r"thought_is_open is 'yes': give true or false"),
    ],
)
def test_train_grpo_config_refuses_wrong_rewards(rewards: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parsed(TrainGrpoConfig, grpo=GRPO, rewards=rewards, seed=0)


def _write_problems(out: Path, *, task: str, answer: str, question: str, split: str = "train") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    prompt = [{"role": "user", "content": question}]
    rows = [{"problem_id": str(i), "split": split, "task": task, "prompt": prompt, "answer": answer} for i in range(8)]
    pq.write_table(pa.Table.from_pylist(rows), out / "problems.parquet")


def _copy(source: Path, target: Path) -> None:
    import shutil

    shutil.copytree(source, target)


def test_train_grpo_takes_the_server_beside_it_and_leaves_one_that_the_recipe_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block = {"use_vllm": True, "vllm_mode": "server"}
    monkeypatch.setenv("R1_VLLM_SERVER_URL", "http://127.0.0.1:20123")
    monkeypatch.setenv("R1_VLLM_GROUP_PORT", "20124")
    ours = {"vllm_server_base_url": "http://127.0.0.1:20123", "vllm_group_port": 20124}
    assert server_beside_us(block) == ours
    assert server_beside_us(block | {"vllm_server_base_url": "http://gpu7:8000"}) == {}
    assert server_beside_us({"use_vllm": True}) == server_beside_us({"vllm_mode": "server"}) == {}
    monkeypatch.delenv("R1_VLLM_SERVER_URL")
    with pytest.raises(UserError, match=r"set resources\.vllm_gpus, .* or name a server with grpo\.vllm_server_base"):
        server_beside_us(block)
