"""How much GPU memory a training needs, from its config alone: an estimate, part by part.

What is certain are the states: weights, gradients, optimizer, reference, critic (arXiv:1910.02054, section 3). The
activations follow a count of what autograd keeps in transformers 5.23's Llama and Qwen2 with SDPA or flash attention
(a test repeats the count). The rest, workspaces and the allocator's fragments, is a lump sum. Expect the total within
a fifth for dense decoders without Liger kernels or torch.compile, and too high with them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tasks.core.preflight.batches import rollout_batch
from tasks.core.preflight.model_shape import ModelShape
from tasks.core.preflight.sharding import Sharding
from tasks.core.preflight.training import Training

GIB = 2**30
CUDA_GB = 1.0
"""The CUDA context, cuBLAS's workspaces and what the allocator cannot hand out again."""
STATES_4_BYTES = {"adamw": 2, "adafactor": 0, "sgd": 0, "lion": 1, "adagrad": 1, "rmsprop": 1, "ademamix": 3}
"""Optimizer family → states of one number per parameter. Adafactor keeps only rows and columns (arXiv:1804.04235)."""
HEAD_TOKENS, HEAD_WIDTH = 4096, 32768
"""TRL 1.16 projects onto the vocabulary in tiles of so many tokens x entries (trl/kernels/chunked_logprob.py), so that
the logits, batch x length x vocabulary, never exist as a whole."""
MAX_LIVE, BUCKET = 10**9, 5 * 10**8
"""DeepSpeed's stage3_max_live_parameters and reduce_bucket_size, in numbers."""

Phase = Literal["always", "training", "sampling"]


@dataclass(frozen=True)
class Part:
    """GiB of one GPU. `is_certain`: needed whatever the batch, and known to the byte where the parameters are."""

    name: str
    gb: float
    how: str
    phase: Phase = "always"
    is_certain: bool = False


@dataclass(frozen=True)
class Estimate:
    """The parts, and the sum of those that exist at the same time."""

    parts: tuple[Part, ...]

    @property
    def certain_gb(self) -> float:
        """What no batch size changes."""
        return sum(part.gb for part in self.parts if part.is_certain)

    @property
    def peak_gb(self) -> float:
        """The worse of the two phases: a rollout stage samples and trains in turns."""
        return max(self._sum("training"), self._sum("sampling"))

    def _sum(self, phase: Phase) -> float:
        return sum(part.gb for part in self.parts if part.phase in ("always", phase))


def estimate(
    training: Training, shape: ModelShape, sharding: Sharding, prompt_tokens: int, gpu_gb: float | None
) -> Estimate:
    """What one training GPU needs. `prompt_tokens`: of a long prompt; `gpu_gb`: its memory, for vLLM's share."""
    parts = [*_states(training, shape, sharding), *_copies(training, shape, sharding)]
    parts += _activations(training, shape, prompt_tokens, residual_bytes(training, shape, sharding))
    parts.append(_head(training, shape, prompt_tokens))
    if training.has_rollouts:
        parts += _sampling(training, shape, prompt_tokens, gpu_gb)
    parts.append(Part("CUDA context, workspaces", CUDA_GB, "a lump sum"))
    return Estimate(tuple(part for part in parts if part.gb > 0))


def weight_bytes(training: Training, shape: ModelShape) -> int:
    """Bytes of one weight as TRL loads it: float32 unless model_init_kwargs.dtype says otherwise."""
    dtype = str(training.model_kwargs.get("dtype") or "float32").removeprefix("torch.")
    dtype = str(shape.dtype or "float32") if dtype == "auto" else dtype
    return 2 if dtype in ("bfloat16", "float16") else 4


def trainable_parameters(training: Training, shape: ModelShape) -> int:
    """All, or those of the adapters: rank x (inputs + outputs) of each target in every layer (arXiv:2106.09685)."""
    if training.lora is None:
        return shape.num_parameters
    sizes, targets = shape.linear_sizes(), training.lora.target_modules
    chosen = [size for name, size in sizes.items() if name in targets or "all-linear" in targets]
    return shape.num_layers * training.lora.r * sum(map(sum, chosen))


def optimizer_bytes(optim: str, state_bytes: int) -> float:
    """Bytes of optimizer states per trained parameter, each state as wide as the parameter, or 1 byte in 8 bits."""
    name = optim.removeprefix("paged_").removeprefix("galore_").removeprefix("schedule_free_")
    count = next((count for family, count in STATES_4_BYTES.items() if name.startswith(family)), 2)
    width = 1.0 if "8bit" in optim or optim == "adamw_bnb" else 0.5 if "4bit" in optim else state_bytes
    return count * width


def _states(training: Training, shape: ModelShape, sharding: Sharding) -> Iterator[Part]:
    """Weights, gradients, optimizer; of the critic too; the frozen reference.

    DeepSpeed trains 16-bit weights and keeps float32 ones with Adam's two moments: 2 + 2 + 12 bytes.
    """
    width, num = weight_bytes(training, shape), trainable_parameters(training, shape)
    is_zero = sharding.kind == "zero" and training.computes_in_16_bits
    kept = 2 if is_zero else width
    wide = 2 if is_zero else 4 if training.lora else width
    per_parameter = optimizer_bytes(str(training["optim"]), 4 if is_zero or training.lora else width)
    per_parameter += 4 if is_zero else 0
    on_gpu, stepped_here = not sharding.offloads_weights, not sharding.offloads_optimizer
    total = _base_bytes(training, shape, kept) + (num * wide if training.lora else 0)
    how = f"{_amount(shape.num_parameters)} parameters, {sharding}"
    models = 2 if training.kind == "ppo" else 1
    named = " of policy and critic" if models == 2 else ""
    yield Part(f"weights{named}", models * total * sharding.share(3) * on_gpu / GIB, how, is_certain=True)
    grads = models * num * wide * sharding.share(2) / GIB
    yield Part(f"gradients{named}", grads, f"{_amount(num)} trained x {wide} bytes", is_certain=True)
    states = models * num * per_parameter * sharding.share(1) * stepped_here / GIB
    yield Part(
        f"optimizer{named}", states, f"{training['optim']}: {per_parameter:g} bytes a parameter", is_certain=True
    )
    if training.has_rollouts and training["beta"] and not training.lora:  # adapters are switched off for it instead
        frozen = shape.num_parameters * kept * sharding.share(3) * on_gpu / GIB
        yield Part("reference model", frozen, f"{training.kind}.beta is {training['beta']}", is_certain=True)


def _base_bytes(training: Training, shape: ModelShape, width: int) -> float:
    """Bytes of the weights; a quantised base keeps embeddings and head in 16 bits.

    4 bits with double quantisation are 4.127 bits a parameter (QLoRA, arXiv:2305.14314, section 3); 8 bits are 8.
    """
    bits = training.lora.base_bits if training.lora else None
    if bits is None:
        return shape.num_parameters * width
    linear = shape.num_parameters - shape.embedding_parameters
    return linear * (4.127 if bits == 4 else 8.0) / 8 + shape.embedding_parameters * 2


def _copies(training: Training, shape: ModelShape, sharding: Sharding) -> Iterator[Part]:
    """16-bit copies that autocast makes of float32 weights, and what the processes exchange."""
    num = trainable_parameters(training, shape)
    # autocast keeps the copies of what is trained; of a frozen base, backward needs them unless it is run again
    is_kept = training.lora is None or (training.lora.base_bits is None and not training.checkpoints_activations)
    is_wide = weight_bytes(training, shape) == 4 and training.computes_in_16_bits and is_kept
    num *= 2 if training.kind == "ppo" else 1
    if is_wide and sharding.kind in ("none", "ddp"):
        copies = shape.num_parameters * 2 * (2 if training.kind == "ppo" else 1) / GIB
        yield Part("16-bit copies of the weights", copies, "autocast; none with dtype: bfloat16")
    if sharding.kind == "ddp":
        width = 4 if training.lora else weight_bytes(training, shape)
        yield Part("DDP's buckets", num * width / GIB, "a second copy of the gradients")
    if sharding.kind == "zero":
        yield Part("DeepSpeed's buckets", min(num, BUCKET) * 2 * 2 / GIB, "reduce_bucket_size, twice")
    if sharding.stage == 3 and sharding.kind == "zero":
        yield Part("gathered weights", min(shape.num_parameters, MAX_LIVE) * 2 / GIB, "stage3_max_live_parameters")
    if sharding.kind == "fsdp":
        gathered = 2 * shape.layer_parameters + shape.embedding_parameters
        yield Part("gathered weights", gathered * 2 / GIB, "two layers and the embeddings")


def _activations(training: Training, shape: ModelShape, prompt_tokens: int, width: int) -> Iterator[Part]:
    """`width`: bytes of a number in the residual stream, which is all that checkpointing keeps of a layer."""
    tokens = _tokens(training, prompt_tokens)
    layer = layer_bytes(training, shape, _length(training, prompt_tokens), width)
    residual = shape.hidden_size * width
    how = f"{_amount(tokens)} tokens a micro-batch" + (", policy and critic" * (training.kind == "ppo"))
    models = 2 if training.kind == "ppo" else 1  # both are run before either goes backward
    if training.checkpoints_activations:
        kept = tokens * (models * shape.num_layers * residual + layer) / GIB
        yield Part("activations", kept, f"{how}, checkpointed: the layers' inputs and one layer", "training")
    else:
        kept = models * tokens * shape.num_layers * layer / GIB
        yield Part("activations", kept, f"{how} x {shape.num_layers} layers, no checkpointing", "training")


def layer_bytes(training: Training, shape: ModelShape, length: int, width: int) -> float:
    """Bytes that autograd keeps per token and layer: 26 h + 4 q + 4 kv + 8 i + 4 heads under bf16 autocast.

    h hidden, q and kv heads x head_dim, i feed-forward width; 16 h where the residual stream is 16-bit (`width` 2).
    All in float32: 24 h + 8 q + 8 kv + 16 i + 4 heads. Eager attention adds the scores, softmax in float32 and 16 bits.
    """
    h, q, kv, i = shape.hidden_size, shape.query_size, shape.kv_size, shape.intermediate_size
    if training.computes_in_16_bits:
        kept = (26 if width == 4 else 16) * h + 4 * q + 4 * kv + 8 * i
    else:
        kept = 24 * h + 8 * q + 8 * kv + 16 * i
    is_eager = training.model_kwargs.get("attn_implementation") == "eager"
    return kept + 4 * shape.num_heads + (6 * shape.num_heads * length if is_eager else 0)


def residual_bytes(training: Training, shape: ModelShape, sharding: Sharding) -> int:
    """Bytes of a number between layers: as wide as the weights that make it, which DeepSpeed turns into 16 bits."""
    is_quantised = training.lora is not None and training.lora.base_bits is not None
    is_zero = sharding.kind == "zero" and training.computes_in_16_bits
    return 2 if is_quantised or is_zero else weight_bytes(training, shape)


def _head(training: Training, shape: ModelShape, prompt_tokens: int) -> Part:
    """The tiles of the vocabulary's projection, the gradient of the head in float32, and of the hidden states."""
    tokens, width = _tokens(training, prompt_tokens), 2 if training.computes_in_16_bits else 4
    tile = min(tokens, HEAD_TOKENS) * HEAD_WIDTH * width + HEAD_WIDTH * shape.hidden_size * width
    head = shape.vocab_size * shape.hidden_size * 4 if training.lora is None else 0
    whole = tokens * shape.vocab_size * 4 / GIB
    how = f"in tiles of {HEAD_TOKENS} tokens; all logits at once would be {whole:.1f} GiB"
    return Part("logits and head", (tile + head + tokens * shape.hidden_size * 4) / GIB, how, "training")


def _sampling(training: Training, shape: ModelShape, prompt_tokens: int, gpu_gb: float | None) -> Iterator[Part]:
    """vLLM's share, or the keys, values and logits of transformers' generate, which takes the whole batch at once."""
    if training.uses_own_vllm:
        share = training["vllm_gpu_memory_utilization"]
        sleeps = bool(training["vllm_enable_sleep_mode"])
        how = f"vllm_gpu_memory_utilization {share} of {gpu_gb or '?'} GiB" + (", asleep while training" * sleeps)
        yield Part("vLLM", share * (gpu_gb or 0), how, "sampling" if sleeps else "always", is_certain=not sleeps)
    elif not training["use_vllm"]:
        batch = rollout_batch(training).generation_batch // training.num_processes
        length = _length(training, prompt_tokens)
        width = weight_bytes(training, shape) + (2 if training.computes_in_16_bits else 4)  # keys and values
        cache = batch * length * shape.num_layers * shape.kv_size * width / GIB
        yield Part("keys and values", cache, f"{batch} completions x {length} tokens", "sampling")
        logits = 3 * batch * shape.vocab_size * 4 / GIB
        yield Part("logits of a token", logits, f"{batch} x {shape.vocab_size} in float32, thrice", "sampling")


def _length(training: Training, prompt_tokens: int) -> int:
    if training.has_rollouts:
        return int(prompt_tokens + training["max_completion_length"])
    return int(training["max_length"])


def _tokens(training: Training, prompt_tokens: int) -> int:
    return int(training["per_device_train_batch_size"] * _length(training, prompt_tokens))


def _amount(number: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.0f}"
