"""Stage train_ppo on a tiny model that knows the format: first advantages by hand, exact resume, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.errors import UserError
from tasks.train_ppo import STAGE, TrainPpoConfig, train_ppo
from tests.tasks.core.test_main_ranks import launch
from tests.tasks.training_inputs import history_of, make_taught, parsed, run_and_kill

# 24 problems with one completion each; 8 completions are generated for 2 steps, of 2 micro-batches of 2 each.
PPO: dict[str, Any] = {
    "max_steps": 10,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "steps_per_generation": 4,
    "num_generations": 1,
    "max_completion_length": 40,
    "temperature": 1.0,
    "learning_rate": 1e-3,
    "beta": 0.01,
    "bf16": False,
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "save_steps": 2,
}
CRITIC: dict[str, Any] = {
    "learning_rate": 2e-3,
    "gamma": 1,
    "gae_lambda": 1.0,
    "value_clip": 0.2,
    "value_loss_weight": 0.5,
}
CONFIG: dict[str, Any] = {
    "ppo": PPO,
    "critic": CRITIC,
    "rewards": {"format": 0.5, "thought_length": {"weight": 0.2, "full_at_chars": 100}},
    "seed": 0,
    "num_logged_completions": None,
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_taught(tmp_path_factory.mktemp("ppo"), 60)


@pytest.fixture(scope="module")
def trained(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole run."""
    out = tmp_path_factory.mktemp("trained")
    train_ppo(parsed(TrainPpoConfig, **CONFIG), out=out, **inputs)
    return out


def tensors(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(path / "model.safetensors"))


def test_train_ppo_writes_a_policy_without_critic_and_the_critic_beside_it(
    trained: Path, inputs: dict[str, Path]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoTokenizer.from_pretrained(trained / "model").chat_template
    assert AutoModelForCausalLM.from_pretrained(trained / "model").num_parameters() > 0
    policy, before, critic = tensors(trained / "model"), tensors(inputs["model"] / "model"), tensors(trained / "critic")
    assert policy.keys() == before.keys()
    assert {path.name for path in trained.iterdir()} >= {"model", "critic", "history.jsonl", "metrics.json", "swanlog"}
    assert not (trained / "model" / "critic").exists()
    assert critic["head.weight"].shape == (1, 32)
    name = "layers.0.mlp.up_proj.weight"
    learnt = critic[f"backbone.{name}"]
    assert not learnt.equal(before[f"model.{name}"]) and not learnt.equal(policy[f"model.{name}"])


def test_train_ppo_logs_the_critics_progress(trained: Path) -> None:
    rows = history_of(trained)
    assert [row["step"] for row in rows] == list(range(1, 11))
    of_critic = {
        "value_loss",
        "explained_variance",
        "values/mean",
        "returns/mean",
        "advantages/std",
        "critic_grad_norm",
    }
    assert of_critic | {"loss", "kl", "reward", "grad_norm", "entropy"} <= rows[0].keys()
    assert rows[0]["values/mean"] == 0 and rows[-2]["values/mean"] != 0
    assert rows[0]["explained_variance"] == pytest.approx(0, abs=1e-6)
    assert rows[0]["learning_rate"] == PPO["learning_rate"]  # the policy's; the critic's is another
    assert json.loads((trained / "metrics.json").read_text())["num_problems"] == 24


def check_first_advantages(out: Path, num_completions: int) -> None:
    """Those of the first generation are its rewards, whitened over all tokens of all processes."""
    import pyarrow.parquet as pq

    rows = [row for row in pq.read_table(out / "completions.parquet").to_pylist() if row["step"] == 1]
    assert len(rows) == len({row["problem_id"] for row in rows}) == num_completions
    num_tokens = sum(row["num_tokens"] for row in rows)
    # the critic says 0 for every state, so each token's advantage is its completion's reward, before whitening
    mean = sum(row["reward"] * row["num_tokens"] for row in rows) / num_tokens
    variance = sum((row["reward"] - mean) ** 2 * row["num_tokens"] for row in rows) / num_tokens
    assert variance > 0, "the rewards are all alike, so this run tests nothing"
    for row in rows:
        assert row["advantage"] == pytest.approx((row["reward"] - mean) / variance**0.5, abs=1e-4)
    first = history_of(out)[0]
    assert first["returns/mean"] == pytest.approx(mean, abs=1e-6)
    assert first["advantages/std"] == pytest.approx(variance**0.5, abs=1e-6)


def test_train_ppo_first_advantages_are_the_whitened_rewards(trained: Path) -> None:
    check_first_advantages(trained, 8)


def test_train_ppo_on_two_ranks_whitens_over_both_and_keeps_one_policy(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = CONFIG | {"ppo": PPO | {"max_steps": 4, "save_strategy": "no"}}
    ended = launch(tmp_path, "train_ppo", config, **inputs)
    assert ended.returncode == 0, ended.stderr[-3000:]
    check_first_advantages(tmp_path, 16)
    assert (tmp_path / "critic" / "model.safetensors").is_file()


def test_train_ppo_killed_and_resumed_equals_uninterrupted(
    trained: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    run_and_kill(STAGE, CONFIG, inputs, tmp_path, "checkpoint-4")
    train_ppo(parsed(TrainPpoConfig, **CONFIG), out=tmp_path, **inputs)
    assert json.loads((tmp_path / "metrics.json").read_text())["resumed_from_step"] in (4, 6, 8)
    assert history_of(tmp_path) == history_of(trained)
    for name in ("model", "critic"):
        assert (tmp_path / name / "model.safetensors").read_bytes() == (
            trained / name / "model.safetensors"
        ).read_bytes()
    ours, wanted = (pq.read_table(out / "completions.parquet") for out in (tmp_path, trained))
    assert ours.equals(wanted)


def make_trainer(inputs: dict[str, Path], out: Path, **ppo: Any) -> Any:
    from tasks.core.ppo.keys import CriticKeys
    from tasks.core.ppo.trainer import PPOConfig, PPOTrainer
    from tasks.core.rollouts import read_problems
    from tasks.core.training import load_tokenizer, trainer_arguments

    return PPOTrainer(
        out=out,
        num_logged_completions=0,
        model=str(inputs["model"] / "model"),
        args=trainer_arguments(PPOConfig, "ppo", PPO | ppo, out, 0),
        train_dataset=read_problems(inputs["problems"] / "problems.parquet", out),
        processing_class=load_tokenizer(inputs["model"]),
        reward_funcs=[lambda prompts, **columns: [0.0] * len(prompts)],
        critic=CriticKeys(**CRITIC),
    )


def test_ppo_trainer_gives_the_critic_its_own_learning_rate_and_hides_it_from_vllm(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    trainer = make_trainer(inputs, tmp_path, weight_decay=0.1)
    groups = trainer.create_optimizer().param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        *[(1e-3, 0.1), (1e-3, 0.0)],
        *[(2e-3, 0.1), (2e-3, 0.0)],
    ]
    in_groups = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(in_groups) == sorted(map(id, trainer.model.parameters()))
    assert {id(parameter) for group in groups[2:] for parameter in group["params"]} == {
        id(parameter) for parameter in trainer.model.critic.parameters()
    }

    class Walk:
        def _iter_named_params(self) -> Any:
            yield from trainer.model.named_parameters()

    trainer.vllm_generation = Walk()
    trainer._hide_critic_from_vllm()
    sent = [name for name, _ in trainer.vllm_generation._iter_named_params()]
    assert len(sent) == len(groups[0]["params"]) + len(groups[1]["params"])
    assert not [name for name in sent if "critic" in name]


@pytest.mark.parametrize(
    ("ppo", "message"),
    [
        (
            {"loss_type": "cispo"},
            r"loss_type\n  is 'cispo', which does not clip .* allowed are dapo, bnpo, grpo, dr_grpo",
        ),
        ({"importance_sampling_level": "sequence"}, "must be token: PPO's advantages belong to tokens"),
        ({"scale_rewards": "group"}, "has no effect in PPO: the reward is not scaled within a group"),
        ({"off_policy_mask_threshold": 0.5}, "drops sequences by the sign of their advantage"),
        ({"learning_rat": 1.0}, "nearest: learning_rate"),
    ],
)
def test_train_ppo_config_refuses_keys_that_make_no_sense(ppo: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parsed(TrainPpoConfig, **CONFIG | {"ppo": PPO | ppo})


def test_train_ppo_contradicting_keys_are_the_users_error(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"TRL refuses the values under `ppo`: .*num_generations"):
        config = parsed(TrainPpoConfig, **CONFIG | {"ppo": PPO | {"num_generations": 5}})
        train_ppo(config, out=tmp_path, **inputs)


def test_train_ppo_identity_leaves_out_what_only_says_how_to_run() -> None:
    identity = parsed(TrainPpoConfig, **CONFIG).identity()
    assert identity.keys() == {"ppo", "critic", "rewards", "seed"}
    assert "logging_steps" not in identity["ppo"] and identity["critic"]["gamma"] == 1.0
