"""What a model's config.json says about its size, without torch.

Parameters are counted by formula for decoders with gated feed-forward layers (Llama, Qwen, Mistral and kin), or read
from the headers of the safetensors files where the weights are there, which is exact for any architecture.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.core.files import read_json

EXACT_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe"})
"""Values of `model_type` whose formula was compared with transformers."""
NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


@dataclass(frozen=True)
class ModelShape:
    """Widths, depths and counts. `context` in tokens, None where the model names no limit.

    `query_size` and `kv_size` are heads x head_dim. `dtype` is what the checkpoint was saved in, None when not said.
    `is_exact`: `num_parameters` is no guess.
    """

    num_parameters: int
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    query_size: int
    kv_size: int
    vocab_size: int
    is_tied: bool
    context: int | None
    dtype: str | None = None
    is_exact: bool = False

    @property
    def embedding_parameters(self) -> int:
        """Input embeddings and, where it is a matrix of its own, the language-model head."""
        return self.vocab_size * self.hidden_size * (1 if self.is_tied else 2)

    @property
    def layer_parameters(self) -> int:
        """One decoder layer, about."""
        return (self.num_parameters - self.embedding_parameters) // self.num_layers

    def linear_sizes(self) -> dict[str, tuple[int, int]]:
        """Name of each linear layer of a decoder layer → (inputs, outputs)."""
        hidden, inner = self.hidden_size, self.intermediate_size
        return {
            "q_proj": (hidden, self.query_size),
            "k_proj": (hidden, self.kv_size),
            "v_proj": (hidden, self.kv_size),
            "o_proj": (self.query_size, hidden),
            "gate_proj": (hidden, inner),
            "up_proj": (hidden, inner),
            "down_proj": (inner, hidden),
        }


def read_shape(directory: Path, overrides: Mapping[str, Any] | None = None) -> ModelShape | None:
    """The shape of the checkpoint in `directory`, with keys of its config.json replaced; None when it is not told."""
    if not (directory / "config.json").is_file():
        return None
    shape = shape_of_config(read_json(directory / "config.json") | dict(overrides or {}))
    count = sum(map(_parameters_in, sorted(directory.glob("*.safetensors"))))
    return replace(shape, num_parameters=count, is_exact=True) if shape and count else shape


def shape_of_config(config: Mapping[str, Any]) -> ModelShape | None:
    """The shape that a config.json describes; None when it is no decoder with the usual names."""
    text = config.get("text_config") or config
    if any(not isinstance(text.get(key), int) for key in NEEDED):
        return None
    heads, hidden = text["num_attention_heads"], text["hidden_size"]
    head_size = text.get("head_dim") or hidden // heads
    shape = ModelShape(
        num_parameters=0,
        num_layers=text["num_hidden_layers"],
        hidden_size=hidden,
        intermediate_size=text.get("intermediate_size") or 4 * hidden,
        num_heads=heads,
        query_size=heads * head_size,
        kv_size=(text.get("num_key_value_heads") or heads) * head_size,
        vocab_size=text["vocab_size"],
        is_tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        context=_context(text),
        dtype=config.get("dtype") or config.get("torch_dtype"),
        is_exact=text.get("model_type") in EXACT_TYPES,
    )
    return replace(shape, num_parameters=_count(shape, text, head_size))


def _count(shape: ModelShape, text: Mapping[str, Any], head_size: int) -> int:
    kind, hidden = text.get("model_type"), shape.hidden_size
    sizes = shape.linear_sizes()
    attention = sum(math.prod(sizes[name]) for name in ("q_proj", "k_proj", "v_proj", "o_proj"))
    if kind == "qwen2" or text.get("attention_bias"):
        attention += shape.query_size + 2 * shape.kv_size
    if text.get("attention_bias"):
        attention += hidden
    if kind in ("qwen3", "qwen3_moe"):  # norms of queries and keys
        attention += 2 * head_size
    feed_forward = 3 * hidden * shape.intermediate_size
    experts = text.get("num_experts") or text.get("num_local_experts")
    if experts:
        inner = text.get("moe_intermediate_size") or shape.intermediate_size
        feed_forward = experts * (3 * hidden * inner + hidden)  # with the router
    return shape.embedding_parameters + shape.num_layers * (attention + feed_forward + 2 * hidden) + hidden


def _context(text: Mapping[str, Any]) -> int | None:
    """max_position_embeddings, or what YaRN and its kin stretch the original context to, whichever is more."""
    context = text.get("max_position_embeddings")
    scaling = text.get("rope_parameters") or text.get("rope_scaling") or {}
    original, factor = scaling.get("original_max_position_embeddings"), scaling.get("factor")
    if isinstance(original, int) and isinstance(factor, int | float):
        return max(context or 0, int(original * factor))
    return context if isinstance(context, int) else None


def _parameters_in(file: Path) -> int:
    """Numbers of all tensors in a safetensors file: its header is JSON behind its length in 8 bytes."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return sum(_sizes(header))


def _sizes(header: Mapping[str, Any]) -> Iterator[int]:
    for name, tensor in header.items():
        if name != "__metadata__":
            yield math.prod(tensor["shape"])
