"""train_grpo: reinforcement learning with verifiable rewards, by TRL's GRPOTrainer.

In: a checkpoint (`model`), the train split of `problems.parquet`, and for the reward `preference` a `reward_model`.
Out: `model/`, `history.jsonl` (one row per TRL log: reward, reward_std, rewards/<name>/mean, kl,
completions/mean_length, entropy ...), `completions.parquet` (rollouts and what they were given:
tasks/core/completions_log.py), `swanlog/`, `metrics.json`; with LoRA also `adapter/`. GRPO: DeepSeekMath, §4
(arXiv:2402.03300); R1-Zero: DeepSeek-R1, §2.2 (arXiv:2501.12948). Which loss and which normalisation are TRL's keys
`loss_type` and `scale_rewards`.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.lora import Lora
from tasks.core.main import main
from tasks.core.rollouts import RolloutConfig, rollout_arguments, summarise
from tasks.core.stage import Input, Stage
from tasks.core.training import train, write_metrics
from tasks.core.trl_keys import trl_block, trl_identity


class DynamicSampling(BaseModel):
    """Train only on groups whose rewards differ (DAPO, arXiv:2503.14476); tasks/core/rollout_trainer.py says how."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    max_rounds: int = Field(ge=2)
    """Generations for one batch at most, the first one among them."""


class TrainGrpoConfig(RolloutConfig):
    """How to reinforce what."""

    grpo: Annotated[dict[str, Any], trl_block("GRPOConfig")]
    """Keys of TRL's GRPOConfig."""
    lora: Lora | None = None
    """Low-rank adapters; all weights when left out."""
    dynamic_sampling: DynamicSampling | None = None
    """Replace groups that teach nothing; every group is trained on when left out."""

    def identity(self) -> dict[str, Any]:
        """As everywhere, without TRL's operational keys, and without what is optional and left out."""
        block = trl_identity("GRPOConfig", self.grpo, keeps_best=self.keep_best is not None)
        identity = super().identity() | {"grpo": block}
        return {key: value for key, value in identity.items() if key != "dynamic_sampling" or value is not None}


def train_grpo(
    config: TrainGrpoConfig, *, out: Path, model: Path, problems: Path, reward_model: Path | None = None
) -> None:
    """Train, write the checkpoint and its curves. Resumes from OUT's work/checkpoints.

    Raises UserError as rollout_arguments does.
    """
    from trl import GRPOConfig

    from tasks.core.quantised_rollouts import full_weights_for_vllm
    from tasks.core.rollout_trainer import RolloutTrainer

    given = rollout_arguments(
        config, GRPOConfig, "grpo", out=out, model=model, problems=problems, reward_model=reward_model
    )
    with full_weights_for_vllm(config.lora):
        trainer = RolloutTrainer(
            **given,
            max_rounds=config.dynamic_sampling.max_rounds if config.dynamic_sampling else 1,
            peft_config=config.lora.to_peft() if config.lora else None,
            quantization_config=config.lora.quantisation() if config.lora else None,
        )
    metrics = train(trainer, out, config.health, config.keep_best, config.keep_checkpoints_every)
    metrics["num_problems"] = len(given["train_dataset"])
    metrics |= summarise(trainer.state.log_history, metrics) | sampling_cost(trainer.state.log_history, given["args"])
    write_metrics(trainer, out, metrics)


def sampling_cost(log: Sequence[Mapping[str, Any]], arguments: Any) -> dict[str, float]:
    """With dynamic sampling: completions sampled in all, and how many for each one that was trained on."""
    totals = [row["dynamic_sampling/total_completions"] for row in log if "dynamic_sampling/total_completions" in row]
    if not totals:
        return {}
    num_batches = arguments.gradient_accumulation_steps * max(row["step"] for row in log)
    num_generations = math.ceil(num_batches / (arguments.steps_per_generation * arguments.num_iterations))
    num_trained = num_generations * arguments.generation_batch_size
    return {"num_sampled_completions": totals[-1], "sampled_per_trained": totals[-1] / num_trained}


STAGE = Stage(
    name="train_grpo",
    version=1,
    config=TrainGrpoConfig,
    run=train_grpo,
    inputs={
        "model": Input(accepts=("fetch_model", "train_sft", "train_grpo", "train_ppo")),
        "problems": Input(accepts=("prepare_data", "select_problems")),
        "reward_model": Input(accepts=("fetch_model",), optional=True),
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
