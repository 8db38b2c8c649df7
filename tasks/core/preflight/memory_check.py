"""Compare an estimate with a GPU: refuse what cannot fit, and say what would."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from tasks.core.preflight.finding import Finding
from tasks.core.preflight.memory import GIB, Estimate, estimate
from tasks.core.preflight.model_shape import ModelShape
from tasks.core.preflight.sharding import Sharding
from tasks.core.preflight.training import Adapters, Training

TOO_MUCH, NEAR = 1.3, 0.85
"""Shares of a GPU's memory: an estimate above the first is refused, above the second is warned of."""
SERVER_SHARE = 0.9
"""What vLLM takes of a GPU that it has to itself, its default."""
MAX_SHOWN = 5
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

Estimator = Callable[[Training, Sharding], Estimate]


def check_memory(
    training: Training, shape: ModelShape, sharding: Sharding, prompt_tokens: int, gpu_gb: float
) -> Iterator[Finding]:
    """Findings about one training GPU of `gpu_gb` GiB, and about vLLM's weights on theirs."""

    def needs(changed: Training, spread: Sharding) -> Estimate:
        return estimate(changed, shape, spread, prompt_tokens, gpu_gb)

    found = needs(training, sharding)
    if found.certain_gb > gpu_gb or found.peak_gb > TOO_MUCH * gpu_gb:
        what = (
            f"weights, gradients, optimizer and other fixed parts alone need {found.certain_gb:.1f} GiB"
            if found.certain_gb > gpu_gb
            else f"about {found.peak_gb:.1f} GiB are needed"
        )
        yield Finding("refuse", f"{what} a GPU, which has {gpu_gb:g}. {_advice(training, sharding, needs, gpu_gb)}")
    elif found.peak_gb > NEAR * gpu_gb:
        yield Finding(
            "warn",
            f"about {found.peak_gb:.1f} of {gpu_gb:g} GiB a GPU are needed, and the estimate may be a fifth off. "
            f"{_advice(training, sharding, needs, gpu_gb)}",
        )
    yield from _check_vllm(training, shape, gpu_gb)


def _check_vllm(training: Training, shape: ModelShape, gpu_gb: float) -> Iterator[Finding]:
    """vLLM holds its own 16-bit copy of the weights, cut over its tensor-parallel GPUs."""
    weights = shape.num_parameters * 2 / GIB
    if training.uses_own_vllm:
        parallel, key = training["vllm_tensor_parallel_size"], "vllm_gpu_memory_utilization"
        share = training[key]
        if weights / parallel > share * gpu_gb:
            least = min(0.95, weights / parallel / gpu_gb + 0.1)
            yield Finding(
                "refuse",
                f"{training.kind}.{key} {share} gives vLLM {share * gpu_gb:.1f} GiB, but its copy of the weights alone "
                f"is {weights / parallel:.1f}: give {least:.2f} or more, or raise vllm_tensor_parallel_size.",
            )
    elif training.vllm_gpus and weights / training.vllm_gpus > SERVER_SHARE * gpu_gb:
        yield Finding(
            "refuse",
            f"vLLM's copy of the weights is {weights:.1f} GiB, too much for resources.vllm_gpus: "
            f"{training.vllm_gpus} of {gpu_gb:g} GiB: raise vllm_gpus.",
        )


def _advice(training: Training, sharding: Sharding, needs: Estimator, gpu_gb: float) -> str:
    """The changes that would fit, with what each needs; the leanest one where none does."""
    tried = {text: needs(*change).peak_gb for text, change in _changes(training, sharding).items()}
    fitting = [(text, gb) for text, gb in tried.items() if gb <= NEAR * gpu_gb]
    if fitting:
        return "What would fit: " + "; ".join(f"{text} ({gb:.1f} GiB)" for text, gb in fitting[:MAX_SHOWN]) + "."
    text, gb = min(tried.items(), key=lambda pair: pair[1])
    return f"No single change fits; the leanest is {text} ({gb:.1f} GiB): take a smaller model or larger GPUs."


def _changes(training: Training, sharding: Sharding) -> Mapping[str, tuple[Training, Sharding]]:
    """Changes to try, the mildest first."""
    kind, size = training.kind, training["per_device_train_batch_size"]
    steps = training["gradient_accumulation_steps"]

    def with_keys(**keys: object) -> Training:
        return replace(training, block={**training.block, **keys})

    half = {"model_init_kwargs": {**training.model_kwargs, "dtype": "bfloat16"}}
    small = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": size * steps}
    small |= {"steps_per_generation": None, "generation_batch_size": None, "gradient_checkpointing": True}
    small |= {"activation_checkpointing": None}
    changes: dict[str, tuple[Training, Sharding]] = {}
    if size > 1 or not training.checkpoints_activations:
        text = f"{kind}.per_device_train_batch_size 1 with gradient_accumulation_steps {size * steps}"
        changes[f"{text} and gradient_checkpointing: true"] = (with_keys(**small), sharding)
    if training.lora is None:
        changes |= _full_changes(training, sharding, with_keys, half, small)
    if training.lora is None or training.lora.base_bits is None:
        lean = with_keys(**half, **small)
        four = replace(lean, lora=Adapters(16, ALL_LINEAR, 4))
        changes["a `lora` of rank 16 with model_init_kwargs.dtype: bfloat16"] = (
            replace(lean, lora=Adapters(16, ALL_LINEAR)),
            sharding,
        )
        changes["a `lora` with base_bits: 4 (QLoRA)"] = (four, sharding)
    return changes or {"nothing": (training, sharding)}


def _full_changes(
    training: Training,
    sharding: Sharding,
    with_keys: Callable[..., Training],
    half: Mapping[str, object],
    small: Mapping[str, object],
) -> Mapping[str, tuple[Training, Sharding]]:
    """Those that still train all weights: 16-bit ones, an 8-bit optimizer, more GPUs, the host's memory."""
    changes: dict[str, tuple[Training, Sharding]] = {}
    if sharding.kind in ("none", "ddp"):
        key = f"{training.kind}.model_init_kwargs.dtype: bfloat16"
        changes[key] = (with_keys(**half, **small), sharding)
        changes[f"{key} and optim: adamw_8bit"] = (with_keys(**half, **small, optim="adamw_8bit"), sharding)
    if sharding.stage < 3:
        for num in (2, 4, 8):
            if num >= sharding.num_gpus:
                spread = Sharding("zero", num, 3)
                changes[f"resources.accelerate: zero3 on {num} training GPUs"] = (with_keys(**small), spread)
    if not sharding.offloads_optimizer:
        spread = Sharding("zero", sharding.num_gpus, 3, True, True)
        changes["resources.accelerate: zero3_offload"] = (with_keys(**small), spread)
    return changes
