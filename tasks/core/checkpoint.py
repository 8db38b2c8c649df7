"""A local checkpoint as its sampler needs it: tokenizer, end tokens, context length. Reads no weights, no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError


@dataclass(frozen=True)
class Checkpoint:
    """`end_ids` end a completion: the checkpoint's and the tokenizer's end tokens, as in TRL's GRPOTrainer.

    `max_length` is the context in tokens, None where the model names no limit.
    """

    path: Path
    tokenizer: Any
    end_ids: tuple[int, ...]
    max_length: int | None

    def render(self, prompts: Sequence[list[dict[str, str]]]) -> list[tuple[str, tuple[int, ...]]]:
        """Text and tokens of each conversation, with the very call by which TRL's GRPOTrainer renders prompts."""
        texts = self.tokenizer.apply_chat_template(list(prompts), add_generation_prompt=True, tokenize=False)
        tokens = self.tokenizer.apply_chat_template(
            list(prompts), add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        return [(text, tuple(ids)) for text, ids in zip(texts, tokens, strict=True)]


def step_folder(artifact: Path, step: int) -> Path:
    """Where a training keeps the weights that it had after `step` (`keep_checkpoints_every`)."""
    return artifact / "checkpoints" / f"step-{step:06d}"


def chosen_checkpoint(artifact: Path, step: int | None) -> Path:
    """The checkpoint of a model's artifact: the last one, or the one kept after `step`.

    Raises UserError that names the steps there are when it was not kept.
    """
    if step is None:
        return artifact / "model"
    chosen = step_folder(artifact, step)
    if not chosen.is_dir():
        there = [str(int(path.name.removeprefix("step-"))) for path in sorted(chosen.parent.glob("step-*"))]
        raise UserError(
            f"checkpoint is {step}, but {artifact} keeps {'those of step ' + ', '.join(there) if there else 'none'}: "
            "set keep_checkpoints_every in the training's stage, and give a multiple of it."
        )
    return chosen


def read_tokenizer(path: Path) -> Any:
    """The tokenizer in `path`. Raises UserError when there is none, or none that can be loaded."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:  # files that are missing, torn, or of an unknown kind
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path} holds no tokenizer that can be loaded ({why}): save the model's tokenizer beside its weights "
            "(tokenizer.json, tokenizer_config.json), or build the stage that made it anew."
        ) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the tokenizer and the configs in `path`. Raises UserError when it cannot be sampled."""
    from transformers import AutoConfig, GenerationConfig

    if not (path / "config.json").is_file():
        raise UserError(
            f"{path} is no checkpoint (config.json is missing). Give as `model` a stage that makes one: "
            "fetch_model, train_sft, train_grpo or train_ppo; `r1 verify` finds damaged artifacts."
        )
    tokenizer = read_tokenizer(path)
    if tokenizer.chat_template is None:
        raise UserError(
            f"The tokenizer in {path} has no chat template, so there is no telling how a prompt is shown to "
            "the model: set `chat_template` in the fetch_model stage."
        )
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"The tokenizer in {path} has no eos_token, so no completion could ever end: "
            "set it in the checkpoint's tokenizer_config.json."
        )
    config = AutoConfig.from_pretrained(path, local_files_only=True)
    if (path / "generation_config.json").is_file():
        declared = GenerationConfig.from_pretrained(path, local_files_only=True).eos_token_id
    else:
        declared = GenerationConfig.from_model_config(config).eos_token_id
    ids = declared if isinstance(declared, list) else [] if declared is None else [declared]
    return Checkpoint(
        path=path,
        tokenizer=tokenizer,
        end_ids=tuple(sorted({*ids, tokenizer.eos_token_id})),
        max_length=getattr(config.get_text_config(), "max_position_embeddings", None),
    )
