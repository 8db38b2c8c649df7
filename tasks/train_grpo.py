"""train_grpo: reinforcement learning with verifiable rewards, by TRL's GRPOTrainer.

In: a checkpoint (`model`) and the train split of `problems.parquet`. Out: `model/`, `history.jsonl` (one row per TRL
log: reward, reward_std, rewards/<name>/mean, kl, completions/mean_length, entropy ...), `swanlog/`, `metrics.json`;
with LoRA also `adapter/`. GRPO: DeepSeekMath, §4 (arXiv:2402.03300); R1-Zero: DeepSeek-R1, §2.2 (arXiv:2501.12948).
Which loss and which normalisation are TRL's keys `loss_type` and `scale_rewards`.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tasks.core.errors import UserError
from tasks.core.main import main
from tasks.core.rewards import build_rewards
from tasks.core.stage import Input, Stage, StageConfig
from tasks.core.training import Lora, load_tokenizer, start_swanlab, train, trainer_arguments, write_metrics
from tasks.core.trl_keys import trl_block, trl_identity


class TrainGrpoConfig(StageConfig):
    """How to reinforce what."""

    grpo: Annotated[dict[str, Any], trl_block("GRPOConfig")]
    """Keys of TRL's GRPOConfig."""
    rewards: dict[str, float | dict[str, Any]] = Field(min_length=1)
    """Reward functions by name, each with its weight, or with {weight, and its own parameters}."""
    seed: int
    """Seeds the order of the problems and the sampling of rollouts."""
    lora: Lora | None = None
    """Low-rank adapters; all weights when left out."""

    def identity(self) -> dict[str, Any]:
        """As everywhere, without TRL's operational keys."""
        return super().identity() | {"grpo": trl_identity("GRPOConfig", self.grpo)}


def train_grpo(config: TrainGrpoConfig, *, out: Path, model: Path, problems: Path) -> None:
    """Train, write the checkpoint and its curves. Resumes from OUT/work/checkpoints.

    Raises UserError when there is no problem to train on or the tokenizer has no chat template.
    """
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = load_tokenizer(model)
    rows = _read_problems(problems / "problems.parquet")
    rewards, weights = build_rewards(config.rewards)
    start_swanlab(out, "grpo")
    trainer = GRPOTrainer(
        model=str(model / "model"),
        args=GRPOConfig(**trainer_arguments(config.grpo, out, config.seed), reward_weights=weights),
        train_dataset=rows,
        processing_class=tokenizer,
        reward_funcs=rewards,
        peft_config=config.lora.to_peft() if config.lora else None,
    )
    metrics = train(trainer, out, "grpo")
    write_metrics(out, metrics | _summary(trainer.state.log_history, metrics["train_wall_s"]))


def _read_problems(path: Path) -> Any:
    from datasets import Dataset

    if not path.is_file():
        raise UserError(f"{path} does not exist: `problems` must point at the output of prepare_data.")
    rows = Dataset.from_parquet(str(path), cache_dir=str(path.parent), keep_in_memory=True)
    rows = rows.filter(lambda split: split == "train", input_columns="split").remove_columns("split")
    if len(rows) == 0:
        raise UserError(f"{path} has no problem with split 'train': set num_train in prepare_data.")
    return rows


def _summary(log: list[dict[str, Any]], wall_s: float) -> dict[str, Any]:
    """Mean reward and length over the last tenth of the logged steps, and the tokens trained on per second."""
    rows = [row for row in log if "reward" in row]
    if not rows:
        return {}
    tail = rows[-max(1, len(rows) // 10) :]
    return {
        "reward_first": rows[0]["reward"],
        "reward_last": sum(row["reward"] for row in tail) / len(tail),
        "mean_length_first": rows[0]["completions/mean_length"],
        "mean_length_last": sum(row["completions/mean_length"] for row in tail) / len(tail),
        "num_tokens": rows[-1]["num_tokens"],
        "tokens_per_s": rows[-1]["num_tokens"] / wall_s,
    }


STAGE = Stage(
    name="train_grpo",
    version=1,
    config=TrainGrpoConfig,
    run=train_grpo,
    inputs={
        "model": Input(accepts=("fetch_model", "train_sft", "train_grpo")),
        "problems": Input(accepts=("prepare_data",)),
    },
    libraries=("trl", "transformers", "torch", "peft"),
)

if __name__ == "__main__":
    main(STAGE)
