"""What the stages that learn from their own rollouts share: problems, the vLLM server beside them, checks, metrics."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator

from tasks.core.errors import UserError
from tasks.core.health import Health
from tasks.core.rewards import build_rewards
from tasks.core.rewards.preference import check_reward_model
from tasks.core.stage import StageConfig, operational
from tasks.core.trackers import start_swanlab
from tasks.core.training import first_and_last, load_rows, load_tokenizer, trainer_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from trl import GRPOConfig

THOUGHT_REWARDS = ("format", "tag_count", "thought_length")
"""The rewards that look for the thought's opening tag."""


LATER = ("keep_best", "keep_checkpoints_every")
"""Keys that came after the first artifacts: no part of the identity where they are left out."""


class RolloutConfig(StageConfig):
    """What every training on rollouts is told, beside its block of TRL's keys."""

    rewards: dict[str, float | dict[str, Any]] = Field(min_length=1)
    """Reward functions by name, each with its weight, or with {weight, and its own parameters}."""
    seed: int
    """Seeds the order of the problems and the sampling of rollouts."""
    num_logged_completions: Annotated[int, Field(ge=0)] | None = operational(64)
    """How many completions of each generation go to completions.parquet, in whole groups; null for all, 0 for none."""
    health: Health = operational(Health())
    """When the training is ended because it has gone wrong."""
    keep_best: str | None = None
    """A logged number, such as reward: best/ holds the checkpoint with the best mean of it, where that is not the last
    step. The choice is among the checkpoints, every `save_steps`."""
    keep_checkpoints_every: Annotated[int, Field(ge=1)] | None = None
    """After so many optimizer steps each time the weights are kept, for evaluations with `checkpoint` or `at_steps`."""

    @field_validator("rewards")
    @classmethod
    def _known_rewards(cls, rewards: dict[str, float | dict[str, Any]]) -> dict[str, float | dict[str, Any]]:
        try:
            build_rewards(rewards)
        except UserError as error:
            raise ValueError(str(error)) from error
        return rewards

    def identity(self) -> dict[str, Any]:
        """As everywhere, without what is optional and left out."""
        identity = super().identity()
        return {key: value for key, value in identity.items() if key not in LATER or value is not None}


def rollout_arguments(
    config: RolloutConfig,
    kind: "type[GRPOConfig]",
    name: str,
    *,
    out: Path,
    model: Path,
    problems: Path,
    reward_model: Path | None,
) -> dict[str, Any]:
    """What RolloutTrainer and its subclasses are made with, from a config whose block of TRL's keys is `name`.

    Starts SwanLab. Raises UserError when there is no problem to train on,
    the tokenizer has no chat template, TRL refuses the keys, a reward does not fit the chat template, or `reward_model`
    and the reward `preference` are not there together.
    """
    check_reward_model(config.rewards, reward_model)
    tokenizer = load_tokenizer(model)
    rows = read_problems(problems / "problems.parquet", out)
    check_thought_is_open(config.rewards, tokenizer, rows[0]["prompt"])
    rewards, weights = build_rewards(config.rewards, reward_model=reward_model)
    block = getattr(config, name)
    block = block | server_beside_us(block, name)
    arguments = trainer_arguments(kind, name, block, out, config.seed, reward_weights=weights)
    start_swanlab(out, name, block)
    return {
        "out": out,
        "num_logged_completions": config.num_logged_completions,
        "model": str(model / "model"),
        "args": arguments,
        "train_dataset": rows,
        "processing_class": tokenizer,
        "reward_funcs": rewards,
    }


def server_beside_us(block: Mapping[str, Any], name: str = "grpo") -> dict[str, Any]:
    """TRL's keys for the vLLM server that the launcher started with this training; none where the recipe names one.

    `name` is the block's: grpo or ppo. Raises UserError when there is no server at all, because TRL would look for one
    on port 8000 for minutes.
    """
    is_named = {"vllm_server_base_url", "vllm_server_host", "vllm_server_port"} & block.keys()
    if not block.get("use_vllm") or block.get("vllm_mode") != "server" or is_named:
        return {}
    if not (url := os.environ.get("R1_VLLM_SERVER_URL")):
        raise UserError(
            f"{name}.vllm_mode is server, but no server was started: set resources.vllm_gpus, and run the stage "
            f"through `r1 run` or slurm/stage.sbatch, or name a server with {name}.vllm_server_base_url."
        )
    return {"vllm_server_base_url": url, "vllm_group_port": int(os.environ["R1_VLLM_GROUP_PORT"])}


def read_problems(path: Path, out: Path) -> Any:
    """The train split; the rewards get its other columns, `task` and `answer` among them."""
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError(f"{path} does not exist: `problems` must point at the output of prepare_data.")
    splits = pq.read_table(path, columns=["split"])["split"].to_pylist()
    if "train" not in splits:
        raise UserError(f"{path} has no problem with split 'train': set num_train in prepare_data.")
    rows = load_rows(path, out)
    return rows.select([i for i, split in enumerate(splits) if split == "train"]).remove_columns("split")


def check_thought_is_open(
    rewards: Mapping[str, Any], tokenizer: "PreTrainedTokenizerBase", prompt: list[dict[str, str]]
) -> None:
    """Refuse a `thought_is_open` that does not fit the chat template, which would make a reward 0 for good answers."""
    rendered = str(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False))
    is_open = rendered.rstrip().endswith("<think>")
    for name in THOUGHT_REWARDS:
        parameters = rewards.get(name)
        said = isinstance(parameters, Mapping) and parameters.get("thought_is_open", False)
        if parameters is not None and said != is_open:
            ends = "ends" if is_open else "does not end"
            raise UserError(
                f"rewards.{name}.thought_is_open is {str(said).lower()}, but the chat template's generation prompt "
                f"{ends} in <think>: write `{name}: {{weight: ..., thought_is_open: {str(is_open).lower()}}}`."
            )


def summarise(log: list[dict[str, Any]], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Reward and response length at the beginning and end, and the tokens (prompts too) of this process per second."""
    summary: dict[str, Any] = first_and_last(log, "reward", "reward")
    summary |= first_and_last(log, "completions/mean_length", "mean_length")
    counts = [(row["step"], row["num_tokens"]) for row in log if "num_tokens" in row]
    if counts:
        num_before = max((count for step, count in counts if step <= metrics["resumed_from_step"]), default=0)
        num_tokens = counts[-1][1]
        summary |= {"num_tokens": num_tokens, "tokens_per_s": (num_tokens - num_before) / metrics["train_wall_s"]}
    return summary
