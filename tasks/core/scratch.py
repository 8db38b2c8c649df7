"""A tiny decoder and its tokenizer, built from a config instead of downloaded.

With words, every integer, operator, bracket and tag is one token; text is tokens between single spaces, as
`tasks.core.countdown.search` writes it. With bytes, any text has tokens: one for each byte of its UTF-8, and one for
each think and answer tag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.core.chat_templates import resolve_template

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PAD, UNKNOWN, END, USER, ASSISTANT = "<pad>", "<unk>", "<|end|>", "<|user|>", "<|assistant|>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
WORDS = (*TAGS, "+", "-", "*", "/", "(", ")", "=", ",", "no", "yes", "->")

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
    vocabulary: Literal["words", "bytes"] = "words"
    """words: Countdown's own words. bytes: any text, as ChatML unless chat_template says otherwise."""
    max_integer: int | None = Field(default=None, gt=0)
    """With words: the vocabulary holds one token for every integer from 0 to this."""
    head: Literal["reward"] | None = None
    """reward: a model that gives a text a score, as the reward `preference` asks; a language model when left out."""

    @model_validator(mode="after")
    def _integers_of_words(self) -> Scratch:
        if (self.vocabulary == "words") != (self.max_integer is not None):
            fix = "add max_integer" if self.vocabulary == "words" else "leave max_integer out"
            raise ValueError(f"vocabulary is {self.vocabulary!r}: {fix}")
        return self

    @model_validator(mode="after")
    def _even_heads(self) -> Scratch:
        if self.hidden_size % (2 * self.num_heads):  # RoPE turns pairs of a head's channels
            raise ValueError(
                f"hidden_size is {self.hidden_size} and num_heads {self.num_heads}: make the width an even multiple of "
                "the number of heads"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The keys that have not always been there count only where they are used."""
        identity = self.model_dump(mode="json", exclude_none=True)
        return {key: value for key, value in identity.items() if (key, value) != ("vocabulary", "words")}


def build_tokenizer(shape: Scratch) -> PreTrainedTokenizerFast:
    """A fixed vocabulary, left padding, a chat template."""
    return _word_tokenizer(shape) if shape.vocabulary == "words" else _byte_tokenizer(shape)


def _word_tokenizer(shape: Scratch) -> PreTrainedTokenizerFast:
    """Tokens between white space."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    assert shape.max_integer is not None
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


def _byte_tokenizer(shape: Scratch) -> PreTrainedTokenizerFast:
    """A token a byte. The tags are ordinary tokens: decoding without special tokens keeps them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [PAD, TURN_START, TURN_END, *TAGS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=TURN_END,
        additional_special_tokens=[TURN_START],
        padding_side="left",
        chat_template=resolve_template("chatml"),
        model_max_length=shape.max_positions,
    )


def build_model(shape: Scratch, tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    """A model with random weights drawn from `seed`, input and output embeddings of a language model tied."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

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
    if shape.head == "reward":
        config.num_labels = 1
        return AutoModelForSequenceClassification.from_config(config)
    return AutoModelForCausalLM.from_config(config)
