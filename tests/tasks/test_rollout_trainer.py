"""Dynamic sampling, the log of completions and TRL's variants, on a tiny model that knows the format."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tasks.core.errors import UserError
from tasks.train_grpo import TrainGrpoConfig, sampling_cost, train_grpo
from tests.tasks.training_inputs import (
    ROOT,
    folder,
    history_of,
    make_taught,
    parsed,
    run_and_ask_to_stop,
)

# A generation is 4 problems of 4 completions, in two micro-batches, and serves two optimizer steps.
GRPO: dict[str, Any] = {
    "max_steps": 8,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "num_generations": 4,
    "num_iterations": 2,
    "max_completion_length": 40,
    "learning_rate": 1e-3,
    "beta": 0.0,
    "bf16": False,
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "save_strategy": "no",
}
ONE_BATCH = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 1, "num_iterations": 1}
REWARDS: dict[str, Any] = {"countdown": 1.0, "format": 0.5}
Train = Callable[..., list[dict[str, Any]]]
LAUNCH = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "-m")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_taught(tmp_path_factory.mktemp("rollouts"), 100)


@pytest.fixture(scope="module")
def sampled(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run with dynamic sampling, every completion logged."""
    out = tmp_path_factory.mktemp("sampled")
    train_grpo(dynamic(), out=out, **inputs)
    return out


def dynamic(**more: Any) -> Any:
    config = {"dynamic_sampling": {"max_rounds": 3}, "num_logged_completions": None, "rewards": REWARDS, "seed": 0}
    return parsed(TrainGrpoConfig, **{"grpo": GRPO, **config, **more})


def completions_of(out: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(out / "completions.parquet").to_pylist())


def groups_of(out: Path) -> list[list[dict[str, Any]]]:
    rows = completions_of(out)
    return [rows[i : i + 4] for i in range(0, len(rows), 4)]


def weights_of(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def test_dynamic_sampling_trains_on_groups_whose_rewards_differ(sampled: Path) -> None:
    groups, steps = groups_of(sampled), [1, 3, 5, 7]
    assert {len({row["problem_id"] for row in group}) for group in groups} == {1}
    assert [sum(group[0]["is_used"] for group in groups if group[0]["step"] == step) for step in steps] == [4] * 4
    differs = [len({row["reward"] for row in group}) > 1 for group in groups]
    assert not all(differs), "every group teaches something, so this run tests nothing"
    for step, row in zip(steps, history_of(sampled)[::2], strict=True):
        here = [(group, differs[i]) for i, group in enumerate(groups) if group[0]["step"] == step]
        kept = [group for group, teaches in here if teaches]
        first_kept = [group[0]["is_used"] for group in kept][:4]
        assert all(first_kept) and not any(group[0]["is_used"] for group in kept[4:])
        num_filled = sum(group[0]["is_used"] for group, teaches in here if not teaches)
        assert num_filled == max(0, 4 - len(kept)) and (not num_filled or row["dynamic_sampling/rounds"] == 3)
        assert row["dynamic_sampling/kept_share"] == pytest.approx(len(kept) / len(here))


def test_dynamic_sampling_shows_the_rewards_of_all_that_was_sampled(sampled: Path) -> None:
    rows, history = completions_of(sampled), history_of(sampled)[::2]
    for step, logged in zip([1, 3, 5, 7], history, strict=True):
        here = [row for row in rows if row["step"] == step]
        assert logged["dynamic_sampling/sampled_completions"] == len(here)
        assert logged["reward"] == pytest.approx(sum(row["reward"] for row in here) / len(here))
        assert logged["completions/max_length"] == max(row["num_tokens"] for row in here)
        assert logged["completions/clipped_ratio"] == pytest.approx(
            sum(row["is_truncated"] for row in here) / len(here)
        )
    metrics = json.loads((sampled / "metrics.json").read_text())
    assert metrics["num_sampled_completions"] == history[-1]["dynamic_sampling/total_completions"] == len(rows) > 64
    assert metrics["sampled_per_trained"] == len(rows) / 64  # 4 generations of 16


def test_dynamic_sampling_paused_and_resumed_equals_uninterrupted(
    sampled: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    said = run_and_ask_to_stop(lambda: train_grpo(dynamic(), out=tmp_path, **inputs), tmp_path, at_step=3)
    assert said.startswith("saved at step 4 of 8")
    train_grpo(dynamic(), out=tmp_path, **inputs)
    assert history_of(tmp_path) == history_of(sampled) and weights_of(tmp_path) == weights_of(sampled)
    assert completions_of(tmp_path) == completions_of(sampled)
    metrics, whole = (json.loads((out / "metrics.json").read_text()) for out in (tmp_path, sampled))
    assert metrics["num_sampled_completions"] == whole["num_sampled_completions"]


def test_dynamic_sampling_joins_rounds_into_the_batch_that_trl_would_have_made(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.core.rollout_trainer import RolloutTrainer

    joined = RolloutTrainer._joined
    batches: list[Any] = []

    def spy(self: Any, rounds: Any, used: Any) -> Any:
        output = joined(self, rounds, used)
        texts = self.processing_class.batch_decode(output["completion_ids"], skip_special_tokens=True)
        batches.append((len(rounds), output, texts))
        return output

    monkeypatch.setattr(RolloutTrainer, "_joined", spy)
    train_grpo(dynamic(grpo=GRPO | {"max_steps": 3}), out=tmp_path, **inputs)
    assert max(num_rounds for num_rounds, *_ in batches) > 1
    rows = [row for row in completions_of(tmp_path) if row["is_used"]]
    assert [text for *_, texts in batches for text in texts] == [row["completion"] for row in rows]
    for i, (_, output, _) in enumerate(batches):
        here = rows[16 * i : 16 * i + 16]
        assert output["completion_mask"].sum(dim=1).tolist() == [row["num_tokens"] for row in here]
        assert int(output["num_items_in_batch"]) == sum(row["num_tokens"] for row in here)
        assert output["advantages"].tolist() == pytest.approx([row["advantage"] for row in here])
        assert output["old_per_token_logps"].shape == output["completion_ids"].shape
        assert output["prompt_ids"].shape == output["prompt_mask"].shape == (16, output["prompt_ids"].shape[1])


def test_dynamic_sampling_where_nothing_differs_trains_on_the_first_round_without_a_push(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    rewards = {"thought_length": {"weight": 0.0, "full_at_chars": 100}}  # always 0
    train_grpo(dynamic(grpo=GRPO | ONE_BATCH | {"max_steps": 1}, rewards=rewards), out=tmp_path, **inputs)
    row = history_of(tmp_path)[0]
    assert row["dynamic_sampling/rounds"] == 3 and row["dynamic_sampling/sampled_completions"] == 48
    assert row["dynamic_sampling/kept_share"] == row["grad_norm"] == 0
    assert [row["is_used"] for row in completions_of(tmp_path)] == [True] * 16 + [False] * 32


def test_dynamic_sampling_with_nothing_to_drop_changes_no_number(inputs: dict[str, Path], tmp_path: Path) -> None:
    rewards = {"thought_length": {"weight": 1.0, "full_at_chars": 1000}}  # as many values as lengths
    grpo = GRPO | ONE_BATCH | {"max_steps": 2}
    train_grpo(dynamic(grpo=grpo, rewards=rewards), out=folder(tmp_path / "with"), **inputs)
    config = parsed(TrainGrpoConfig, grpo=grpo, rewards=rewards, seed=0, num_logged_completions=7)
    train_grpo(config, out=folder(tmp_path / "without"), **inputs)
    rows = history_of(tmp_path / "with")
    assert {row.pop("dynamic_sampling/rounds") for row in rows} == {1}
    plain = [{key: value for key, value in row.items() if not key.startswith("dynamic_")} for row in rows]
    assert plain == history_of(tmp_path / "without")
    assert weights_of(tmp_path / "with") == weights_of(tmp_path / "without")
    assert [row["step"] for row in completions_of(tmp_path / "without")] == [1] * 4 + [2] * 4  # 7 is one whole group


def test_dynamic_sampling_of_two_processes_makes_the_same_rounds_and_logs_both(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = dynamic(grpo=GRPO | ONE_BATCH | {"per_device_train_batch_size": 8, "max_steps": 2})
    job = {"stage": "train_grpo", "config": config.model_dump(mode="json"), "inputs": inputs}
    (tmp_path / "config.json").write_text(json.dumps(job, default=str))
    command = [sys.executable, *LAUNCH, "tasks.train_grpo", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-3000:]
    groups, history = groups_of(tmp_path), history_of(tmp_path)
    assert {len({row["problem_id"] for row in group}) for group in groups} == {1}
    assert max(row["dynamic_sampling/rounds"] for row in history) > 1
    for row in history:
        here = [group for group in groups if group[0]["step"] == row["step"]]
        assert row["dynamic_sampling/sampled_completions"] == 4 * len(here)
        assert sum(group[0]["is_used"] for group in here) == 4  # two of each process
        refills = [group[0]["problem_id"] for group in here[4:]]
        assert len(set(refills)) == len(refills)


def test_dynamic_sampling_refuses_groups_that_span_processes() -> None:
    from tasks.core.rollout_trainer import _refuse_split_groups

    arguments: Any = SimpleNamespace(per_device_train_batch_size=2, steps_per_generation=3, num_generations=4)
    _refuse_split_groups(arguments, max_rounds=1)
    with pytest.raises(UserError, match=r"6 completions \(grpo\.per_device_train_batch_size 2 x steps_per_generation"):
        _refuse_split_groups(arguments, max_rounds=10)


def test_dynamic_sampling_is_identity_only_where_it_is_given() -> None:
    plain = parsed(TrainGrpoConfig, grpo=GRPO, rewards=REWARDS, seed=0, num_logged_completions=3)
    assert plain.identity().keys() == {"grpo", "rewards", "seed", "lora"}
    assert dynamic().identity()["dynamic_sampling"] == {"max_rounds": 3}
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        dynamic(dynamic_sampling={"max_rounds": 1})


def test_sampling_cost_counts_what_each_trained_completion_took() -> None:
    arguments = SimpleNamespace(
        gradient_accumulation_steps=2, steps_per_generation=4, num_iterations=1, generation_batch_size=32
    )
    log = [
        {"step": 2, "dynamic_sampling/total_completions": 40},
        {"step": 5, "dynamic_sampling/total_completions": 120},
    ]
    assert sampling_cost(log, arguments) == {"num_sampled_completions": 120, "sampled_per_trained": 1.25}  # of 3 x 32
    assert sampling_cost([{"step": 5}], arguments) == {}


@pytest.fixture(scope="module")
def train_two_steps(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Train:
    """The history of two steps with other keys; the first step's completions are the same for all of them."""

    def run(**keys: Any) -> list[dict[str, Any]]:
        out = tmp_path_factory.mktemp("variant")
        grpo = GRPO | ONE_BATCH | {"max_steps": 2, "loss_type": "grpo", "max_completion_length": 30} | keys
        train_grpo(parsed(TrainGrpoConfig, grpo=grpo, rewards=REWARDS, seed=0), out=out, **inputs)
        return history_of(out)

    return run


@pytest.fixture(scope="module")
def plain(train_two_steps: Train) -> list[dict[str, Any]]:
    return train_two_steps()


@pytest.mark.parametrize(
    "keys",
    [
        {"loss_type": "dapo"},
        {"loss_type": "dr_grpo"},
        {"scale_rewards": "none"},
        {"scale_rewards": "batch"},
        {"mask_truncated_completions": True},
    ],
    ids=lambda keys: next(iter(keys)) + "-" + str(next(iter(keys.values()))),
)
def test_train_grpo_variant_takes_another_step_on_the_same_completions(
    train_two_steps: Train, plain: list[dict[str, Any]], keys: dict[str, Any]
) -> None:
    assert 0 < plain[0]["completions/clipped_ratio"] < 1, "none or all are truncated: masking them tests nothing"
    rows = train_two_steps(**keys)
    assert rows[0]["reward"] == plain[0]["reward"] and rows[0]["num_tokens"] == plain[0]["num_tokens"]
    assert rows[0]["grad_norm"] > 0 and rows[0]["grad_norm"] != pytest.approx(plain[0]["grad_norm"], rel=1e-3)
    assert rows[1]["grad_norm"] > 0


SYNCED = {"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 2, "ref_model_mixup_alpha": 0.9}


def test_train_grpo_synced_reference_follows_the_policy_and_survives_a_pause(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    def run(name: str, **keys: Any) -> None:
        grpo = GRPO | ONE_BATCH | {"max_steps": 5} | SYNCED | keys
        train_grpo(parsed(TrainGrpoConfig, grpo=grpo, rewards=REWARDS, seed=0), out=folder(tmp_path / name), **inputs)

    run("fixed", sync_ref_model=False)
    run("synced")
    fixed, synced = history_of(tmp_path / "fixed"), history_of(tmp_path / "synced")
    assert [row["kl"] for row in synced[:2]] == [row["kl"] for row in fixed[:2]] and synced[1]["kl"] > 0
    assert synced[2]["kl"] < fixed[2]["kl"]  # after step 2 the reference is near the policy
    out = folder(tmp_path / "paused")
    assert run_and_ask_to_stop(lambda: run("paused"), out, at_step=3)
    run("paused")
    assert history_of(out) == synced
    assert weights_of(out) == weights_of(tmp_path / "synced")
