"""train_ppo: reinforcement learning with verifiable rewards by PPO with a value model (arXiv:1707.06347).

In and out as train_grpo: a checkpoint (`model`) and the train split of `problems.parquet`; `model/`, `history.jsonl`
(also value_loss, explained_variance, values/mean, returns/mean, advantages/std), `completions.parquet` (with the mean
of each completion's advantages), `swanlog/`, `metrics.json`; and `critic/`, the value model, which no stage reads. It
starts as a copy of the policy with a head of zeros (tasks/core/ppo/critic.py). How the algorithm differs from
Open-Reasoner-Zero (arXiv:2503.24290) and TinyZero stands in tasks/core/ppo/trainer.py.

The whole model and the whole critic are trained: at a given size that needs about twice the memory of train_grpo.
"""

import shutil
from pathlib import Path
from typing import Annotated, Any

from pydantic import ValidationError, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from tasks.core.main import main
from tasks.core.ppo.keys import CriticKeys, ppo_mistakes
from tasks.core.rollouts import RolloutConfig, rollout_arguments, summarise
from tasks.core.stage import Input, Stage
from tasks.core.training import train, write_metrics
from tasks.core.trl_keys import trl_block, trl_identity


class TrainPpoConfig(RolloutConfig):
    """How to reinforce what."""

    ppo: Annotated[dict[str, Any], trl_block("GRPOConfig")]
    """Keys of TRL's GRPOConfig, whose rollouts and clipped loss PPO uses; num_generations may be 1."""
    critic: CriticKeys
    """How the value model learns."""

    @field_validator("ppo")
    @classmethod
    def _fits_ppo(cls, ppo: dict[str, Any]) -> dict[str, Any]:
        if found := ppo_mistakes(ppo):
            raise ValidationError.from_exception_data(
                "keys of ppo",
                [
                    InitErrorDetails(
                        type=PydanticCustomError("r1_key", "{text}", {"text": text}), loc=(key,), input=ppo.get(key)
                    )
                    for key, text in found.items()
                ],
            )
        return ppo

    def identity(self) -> dict[str, Any]:
        """As everywhere, without TRL's operational keys."""
        block = trl_identity("GRPOConfig", self.ppo, keeps_best=self.keep_best is not None)
        return super().identity() | {"ppo": block}


def train_ppo(
    config: TrainPpoConfig, *, out: Path, model: Path, problems: Path, reward_model: Path | None = None
) -> None:
    """Train, write the checkpoint, the critic and the curves. Resumes from OUT's work/checkpoints.

    Raises UserError as rollout_arguments does.
    """
    from tasks.core.ppo.trainer import PPOConfig, PPOTrainer

    given = rollout_arguments(
        config, PPOConfig, "ppo", out=out, model=model, problems=problems, reward_model=reward_model
    )
    trainer = PPOTrainer(**given, critic=config.critic)
    metrics = train(trainer, out, config.health, config.keep_best, config.keep_checkpoints_every)
    metrics["num_problems"] = len(given["train_dataset"])
    if trainer.is_world_process_zero():
        shutil.rmtree(out / "critic", ignore_errors=True)  # a run that was killed after this line
        (out / "model" / "critic").rename(out / "critic")
    write_metrics(trainer, out, metrics | summarise(trainer.state.log_history, metrics))


STAGE = Stage(
    name="train_ppo",
    version=1,
    config=TrainPpoConfig,
    run=train_ppo,
    inputs={
        "model": Input(accepts=("fetch_model", "train_sft", "train_grpo", "train_ppo")),
        "problems": Input(accepts=("prepare_data", "select_problems")),
        "reward_model": Input(accepts=("fetch_model",), optional=True),
    },
    libraries=("trl", "transformers", "torch"),
    is_distributed=True,
    memory_advice=(
        "lower ppo.max_completion_length, or ppo.per_device_train_batch_size with ppo.gradient_accumulation_steps "
        "raised as much, or with ppo.use_vllm also ppo.vllm_gpu_memory_utilization, or set "
        "ppo.gradient_checkpointing: true; without a critic, as in GRPO, weights and optimizer need half"
    ),
)

if __name__ == "__main__":
    main(STAGE)
