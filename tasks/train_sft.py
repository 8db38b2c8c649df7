"""train_sft: supervised fine-tuning on verified traces with TRL's SFTTrainer.

In: a checkpoint (`model`) and `traces.parquet` of verify_traces, select_traces, prepare_traces or mix_traces. Out:
`model/`, `history.jsonl` (one row per TRL log), `swanlog/` (SwanLab's files), `metrics.json`; with LoRA `adapter/` too.
The loss counts the completion's tokens only.
DeepSeek-R1, §2.3.1 (arXiv:2501.12948), calls this the cold start.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tasks.core.errors import UserError
from tasks.core.health import BasicHealth
from tasks.core.lora import Lora
from tasks.core.main import main
from tasks.core.stage import Input, Stage, StageConfig, operational
from tasks.core.trackers import start_swanlab
from tasks.core.training import (
    first_and_last,
    load_rows,
    load_tokenizer,
    train,
    trainer_arguments,
    write_metrics,
)
from tasks.core.trl_keys import trl_block, trl_identity


class TrainSftConfig(StageConfig):
    """How to fine-tune."""

    sft: Annotated[dict[str, Any], trl_block("SFTConfig")]
    """Keys of TRL's SFTConfig."""
    seed: int
    """Seeds the order of the batches and dropout."""
    lora: Lora | None = None
    """Low-rank adapters; full fine-tuning when left out."""
    health: BasicHealth = operational(BasicHealth())
    """When the training is ended because it has gone wrong."""
    keep_checkpoints_every: Annotated[int, Field(ge=1)] | None = None
    """After so many optimizer steps each time the weights are kept, for evaluations with `checkpoint` or `at_steps`."""

    def identity(self) -> dict[str, Any]:
        """As everywhere, without TRL's operational keys, and without what is optional and left out."""
        identity = super().identity() | {"sft": trl_identity("SFTConfig", self.sft)}
        return {key: value for key, value in identity.items() if key != "keep_checkpoints_every" or value is not None}


def train_sft(config: TrainSftConfig, *, out: Path, model: Path, traces: Path) -> None:
    """Train, write the checkpoint and its curves. Resumes from OUT's work/checkpoints.

    Raises UserError when there is no trace to learn from or the tokenizer has no chat template.
    """
    from trl import SFTConfig, SFTTrainer

    tokenizer = load_tokenizer(model)
    rows = _read_traces(traces / "traces.parquet", out)
    arguments = trainer_arguments(SFTConfig, "sft", config.sft, out, config.seed)
    start_swanlab(out, "sft", config.sft)
    trainer = SFTTrainer(
        model=str(model / "model"),
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=config.lora.to_peft() if config.lora else None,
        quantization_config=config.lora.quantisation() if config.lora else None,
    )
    metrics = train(trainer, out, config.health, keep_every=config.keep_checkpoints_every)
    metrics |= {"num_traces": len(rows), "num_trained_on": len(trainer.train_dataset)}
    for key in ("loss", "mean_token_accuracy"):
        metrics |= first_and_last(trainer.state.log_history, key, key)
    write_metrics(trainer, out, metrics)


def _read_traces(path: Path, out: Path) -> Any:
    """The rows as TRL's conversational prompt-completion format."""
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError(f"{path} does not exist: `traces` must point at the output of verify_traces.")
    if not pq.read_metadata(path).num_rows:
        raise UserError(f"{path} is empty: no trace survived verification, so there is nothing to learn from.")
    rows = load_rows(path, out).select_columns(["prompt", "completion"])
    return rows.map(_as_message, input_columns="completion", remove_columns="completion")


def _as_message(completion: str) -> dict[str, Any]:
    return {"completion": [{"role": "assistant", "content": completion}]}


STAGE = Stage(
    name="train_sft",
    version=1,
    config=TrainSftConfig,
    run=train_sft,
    inputs={
        "model": Input(accepts=("fetch_model", "train_sft", "train_grpo", "train_ppo")),
        "traces": Input(accepts=("verify_traces", "select_traces", "prepare_traces", "mix_traces")),
    },
    libraries=("trl", "transformers", "torch", "peft"),
    is_distributed=True,
    memory_advice=(
        "lower sft.max_length, or sft.per_device_train_batch_size with sft.gradient_accumulation_steps raised as much, "
        "or set sft.gradient_checkpointing: true, or train a `lora`"
    ),
)

if __name__ == "__main__":
    main(STAGE)
