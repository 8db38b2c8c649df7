"""train_grpo: reinforcement learning with verifiable rewards, by TRL's GRPOTrainer.

In: a checkpoint (`model`) and the train split of `problems.parquet`. Out: `model/`, `history.jsonl` (one row per TRL
log: reward, reward_std, rewards/<name>/mean, kl, completions/mean_length, entropy ...), `swanlog/`, `metrics.json`;
with LoRA also `adapter/`. GRPO: DeepSeekMath, §4 (arXiv:2402.03300); R1-Zero: DeepSeek-R1, §2.2 (arXiv:2501.12948).
Which loss and which normalisation are TRL's keys `loss_type` and `scale_rewards`.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from tasks.core.errors import UserError
from tasks.core.main import main
from tasks.core.rewards import build_rewards
from tasks.core.rollouts import check_thought_is_open, read_problems, server_beside_us, summarise
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

    @field_validator("rewards")
    @classmethod
    def _known_rewards(cls, rewards: dict[str, float | dict[str, Any]]) -> dict[str, float | dict[str, Any]]:
        try:
            build_rewards(rewards)
        except UserError as error:
            raise ValueError(str(error)) from error
        return rewards

    def identity(self) -> dict[str, Any]:
        """As everywhere, without TRL's operational keys."""
        return super().identity() | {"grpo": trl_identity("GRPOConfig", self.grpo)}


def train_grpo(config: TrainGrpoConfig, *, out: Path, model: Path, problems: Path) -> None:
    """Train, write the checkpoint and its curves. Resumes from OUT's work/checkpoints.

    Raises UserError when there is no problem to train on or the tokenizer has no chat template.
    """
    from trl import GRPOConfig

    from tasks.core.resume import ResumableGRPOTrainer

    tokenizer = load_tokenizer(model)
    rows = read_problems(problems / "problems.parquet", out)
    check_thought_is_open(config.rewards, tokenizer, rows[0]["prompt"])
    rewards, weights = build_rewards(config.rewards)
    block = config.grpo | server_beside_us(config.grpo)
    arguments = trainer_arguments(GRPOConfig, "grpo", block, out, config.seed, reward_weights=weights)
    start_swanlab(out, "grpo", config.grpo)
    trainer = ResumableGRPOTrainer(
        model=str(model / "model"),
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        reward_funcs=rewards,
        peft_config=config.lora.to_peft() if config.lora else None,
    )
    metrics = train(trainer, out) | {"num_problems": len(rows)}
    write_metrics(trainer, out, metrics | summarise(trainer.state.log_history, metrics))


STAGE = Stage(
    name="train_grpo",
    version=1,
    config=TrainGrpoConfig,
    run=train_grpo,
    inputs={
        "model": Input(accepts=("fetch_model", "train_sft", "train_grpo")),
        "problems": Input(accepts=("prepare_data", "select_problems")),
    },
    libraries=("trl", "transformers", "torch", "peft"),
    is_distributed=True,
    memory_advice=(
        "lower grpo.max_completion_length, or grpo.per_device_train_batch_size with grpo.gradient_accumulation_steps "
        "raised as much, or grpo.num_generations, or with grpo.use_vllm also grpo.vllm_gpu_memory_utilization, or set "
        "grpo.gradient_checkpointing: true, or train a `lora`"
    ),
)

if __name__ == "__main__":
    main(STAGE)
