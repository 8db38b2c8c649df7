"""What `--smoke` changes in a stage: one function for each kind, from the stage's values to new ones.

Only sizes shrink, and what a laptop cannot have is left out: GPUs, vLLM, DeepSpeed, flash attention, 8-bit optimisers,
quantised bases, the hub and endpoints. Rewards, losses, filters, templates, adapters and the order of stages stay.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows.smoke_rows import local_source, rows_of

Values = dict[str, Any]

TINY = {
    "architecture": "llama",
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_layers": 2,
    "num_heads": 2,
    "max_positions": 4096,
    "vocabulary": "bytes",
}
NUM_TRAIN, NUM_EVAL, NUM_SAMPLES, NUM_TOKENS = 16, 4, 4, 40
SFT_STEPS, RL_STEPS, BATCH = 40, 2, 8
NEEDS_GPU = (
    *("deepspeed", "fsdp", "fsdp_config", "tf32", "fp16", "torch_compile", "use_liger_kernel", "liger_kernel_config"),
    *("packing", "padding_free", "activation_offloading", "cast_lm_head_to_fp32"),
)
"""TRL's keys that are left out: they want a GPU, several processes or a package that only GPUs have."""
SIZES = (
    *("num_train_epochs", "steps_per_generation", "generation_batch_size", "eval_strategy", "eval_steps"),
    *("dataset_num_proc", "dataloader_num_workers", "save_steps", "save_strategy", "save_total_limit"),
)
"""TRL's keys that decide how much is done, or follow from that."""


def tiny_model(values: Values, head: str | None) -> Values:
    """A tiny model with random weights; `head` "reward" for a reward model. One from scratch is tiny already."""
    if values["source"] == "scratch":
        return values
    kept = {key: values[key] for key in ("chat_template", "prefill", "config_overrides") if values.get(key) is not None}
    return kept | {"source": "scratch", "scratch": TINY | ({"head": head} if head else {}), "seed": 0}


def few_problems(values: Values, rows: Path) -> Values:
    """A handful of rows with the same columns and filters; the first row of the training is in every benchmark."""
    counts = _counted(values, num_train=NUM_TRAIN, num_eval=NUM_EVAL) | _where_given(values, num_workers=1)
    return values | {"source": local_source(values["source"], rows)} | _few_benchmarks(values, rows) | counts


def few_traces(values: Values, rows: Path) -> Values:
    """A handful of traces with the same columns and filters."""
    source = local_source(values["source"], rows)
    return values | {"source": source} | _few_benchmarks(values, rows) | _counted(values, num_traces=NUM_TRAIN)


def _few_benchmarks(values: Values, rows: Path) -> Values:
    """`filters` with the benchmarks as local files, each with the first question of the training."""
    filters = values.get("filters") or {}
    block = filters.get("decontaminate")
    if not block:
        return {}
    first = next((one for one in _plain(values["source"]) if one.get("question_column")), None)
    benchmarks = {}
    for name, benchmark in block["benchmarks"].items():
        columns = {key: value for key, value in benchmark.items() if key in ("question_column", "answer_column")}
        same = rows_of({**first, **columns, "keep_where": None, "drop_where": None})[:1] if first else []
        benchmarks[name] = local_source(benchmark, rows, same)
    return {"filters": filters | {"decontaminate": block | {"benchmarks": benchmarks}}}


def _plain(source: Values) -> list[Values]:
    return [part["source"] for part in source["sources"].values()] if source["kind"] == "mixture" else [source]


def few_samples(values: Values) -> Values:
    """A handful of samples; every model as a teacher becomes the tiny one, in process."""
    teacher = values["teacher"]
    if teacher["kind"] != "solver":
        teacher = _tiny_teacher(teacher)
    return values | {"teacher": teacher} | _counted(values, num_traces=NUM_SAMPLES, num_problems=NUM_TRAIN)


def _tiny_teacher(teacher: Values) -> Values:
    """The system prompt and the instruction are left out: the tiny model was taught without them."""
    kept = {key: teacher[key] for key in ("temperature", "top_p") if key in teacher}
    return kept | {"kind": "transformers", "max_new_tokens": NUM_TOKENS, "dtype": "float32", "batch_size": 64}


def few_verdicts(values: Values) -> Values:
    """One process; the judge becomes the tiny model, which talks nonsense."""
    judge = values.get("judge")
    changed = {"judge": judge | {"teacher": _tiny_teacher(judge["teacher"])}} if judge else {}
    return values | changed | _where_given(values, num_workers=1)


def few_selected(values: Values) -> Values:
    """As many as there can be."""
    domains = values["domains"]
    domains = domains | ({"num_clusters": 2} if "num_clusters" in domains else {})
    return values | {"domains": domains} | _counted(values, num_traces=NUM_EVAL)


def few_mixed(values: Values) -> Values:
    """A few of each that is not taken whole."""
    few = {name: most if most is None else min(most, NUM_EVAL) for name, most in values["num_traces"].items()}
    return values | {"num_traces": few}


def short_sft(values: Values, num_steps: int = SFT_STEPS) -> Values:
    """Enough steps, at a tiny model's learning rate, to learn one short answer by heart."""
    block = _on_a_laptop(values["sft"]) | {"max_steps": num_steps, "learning_rate": 5e-3, "logging_steps": 10}
    kept = _where_set(values, keep_checkpoints_every=RL_STEPS)
    return _full_base(values) | {"sft": block | {"max_length": 1024}} | kept


def short_rl(values: Values, key: str) -> Values:
    """Two steps of two groups; `key` is the block of TRL's keys."""
    block = _on_a_laptop(values[key])
    block = {name: value for name, value in block.items() if not name.startswith("vllm_")}
    block |= {"max_steps": RL_STEPS, "logging_steps": 1, "max_completion_length": NUM_TOKENS}
    block |= {"num_generations": min(block.get("num_generations") or BATCH, NUM_SAMPLES)}
    block |= _where_given(block, use_vllm=False, ref_model_sync_steps=1)
    sampling = values.get("dynamic_sampling")
    changed = {"dynamic_sampling": sampling | {"max_rounds": 2}} if sampling else {}
    changed |= _where_set(values, keep_checkpoints_every=RL_STEPS)
    return _full_base(values) | {key: block} | changed


def _on_a_laptop(block: Values) -> Values:
    """A block of TRL's keys for a CPU and a batch of eight."""
    kept = {key: value for key, value in block.items() if key not in (*NEEDS_GPU, *SIZES)}
    kept |= {"per_device_train_batch_size": BATCH, "bf16": False}
    kept |= _where_given(kept, gradient_accumulation_steps=1, optim="adamw_torch")
    if float(kept.get("warmup_steps") or 0) >= 1:
        kept["warmup_steps"] = 1
    started = {key: value for key, value in (kept.pop("model_init_kwargs", None) or {}).items() if key == "use_cache"}
    return kept | ({"model_init_kwargs": started} if started else {})


def _full_base(values: Values) -> Values:
    lora = values.get("lora")
    return values | ({"lora": {**lora, "base_bits": None}} if lora and lora.get("base_bits") else {})


def few_questions(values: Values) -> Values:
    """All of the few questions, few samples, short answers, in transformers."""
    kept = {key: value for key, value in values.items() if key not in ("server", "data_revision", "dtype")}
    changed: Values = {"num_questions": None, "engine": "transformers"}
    changed |= _where_given(values, batch_size=64, num_workers=1)
    changed |= _where_set(values, checkpoint=RL_STEPS)
    if budget := values.get("thinking"):
        most = {"min_tokens": NUM_TOKENS // 4, "max_tokens": NUM_TOKENS // 2}
        bounds = {key: min(budget[key], number) for key, number in most.items() if budget[key] is not None}
        changed |= {"thinking": {**budget, **bounds, "forced_end": None}}
    return kept | changed | _counted(values, num_samples=2, max_new_tokens=NUM_TOKENS)


def _where_given(values: Values, **changed: Any) -> Values:
    return {key: value for key, value in changed.items() if key in values}


def _where_set(values: Values, **changed: Any) -> Values:
    return {key: value for key, value in changed.items() if values.get(key) is not None}


def _counted(values: Values, **most: int) -> Values:
    return {key: _at_most(values.get(key), number) for key, number in most.items()}


def _at_most(value: Any, most: int) -> int:
    return most if value is None else min(value, most)


def unchanged(values: Values) -> Values:
    """Nothing to shrink."""
    return values


RULES: Mapping[str, Callable[[Values], Values]] = {
    "select_problems": unchanged,
    "generate_traces": few_samples,
    "verify_traces": few_verdicts,
    "select_traces": few_selected,
    "mix_traces": few_mixed,
    "train_sft": short_sft,
    "train_grpo": lambda values: short_rl(values, "grpo"),
    "train_ppo": lambda values: short_rl(values, "ppo"),
    "evaluate": few_questions,
    "report": unchanged,
}
"""The rules that need nothing but the stage's own values."""
