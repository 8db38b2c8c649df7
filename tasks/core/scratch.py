"""A tiny decoder and its word-level tokenizer, built from a config instead of downloaded.

Every integer, operator, bracket and tag is one token; text is tokens between single spaces, as
`tasks.core.countdown.search` writes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PAD, UNKNOWN, END, USER, ASSISTANT = "<pad>", "<unk>", "<|end|>", "<|user|>", "<|assistant|>"
WORDS = ("<think>", "</think>", "<answer>", "</answer>", "+", "-", "*", "/", "(", ")", "=", ",", "no", "yes", "->")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|> {{ message['content'] }} <|end|> "
    "{% else %}<|user|> {{ message['content'] }} {% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)


class Scratch(BaseModel):
    """The shape of a model that starts from random weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    architecture: Literal["llama", "qwen2"]
    """Decoder family: both pre-norm with RoPE and SwiGLU; qwen2 adds biases to the query, key and value projections."""
    hidden_size: int = Field(gt=0)
    """Width of the residual stream; an even multiple of `num_heads`."""
    intermediate_size: int = Field(gt=0)
    """Width of the SwiGLU feed-forward layer."""
    num_layers: int = Field(gt=0)
    """Decoder layers."""
    num_heads: int = Field(gt=0)
    """Attention heads (as many key-value heads)."""
    max_positions: int = Field(gt=0)
    """Longest sequence, prompt and completion together, in tokens."""
    max_integer: int = Field(gt=0)
    """The vocabulary holds one token for every integer from 0 to this."""

    @model_validator(mode="after")
    def _even_heads(self) -> Scratch:
        if self.hidden_size % (2 * self.num_heads):  # RoPE turns pairs of a head's channels
            raise ValueError(
                f"hidden_size is {self.hidden_size} and num_heads {self.num_heads}: make the width an even multiple of "
                "the number of heads"
            )
        return self


def build_tokenizer(shape: Scratch) -> PreTrainedTokenizerFast:
    """The word-level tokenizer: a fixed vocabulary, white-space pre-tokenisation, left padding, a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [PAD, UNKNOWN, END, USER, ASSISTANT, *WORDS, *map(str, range(shape.max_integer + 1))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        model_max_length=shape.max_positions,
    )


def build_model(shape: Scratch, tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    """A model with random weights drawn from `seed`, input and output embeddings tied."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        shape.architecture,
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config)
