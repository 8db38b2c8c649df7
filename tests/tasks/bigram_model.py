"""A Llama whose next word depends on the last word only, with probabilities that a test writes down.

One layer whose outputs are zero, one-hot embeddings and a head that holds log probabilities: a real checkpoint for
transformers, trl and lighteval, with completions that can be worked out by hand.
"""

import math
from pathlib import Path

CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
SPECIAL = ["<pad>", "<eos>", "<unk>", "<user>", "<assistant>"]
NEVER = -1e4


def save_bigram_model(
    path: Path, words: list[str], follows: dict[str, dict[str, float]], *, chat_template: str | None = CHAT_TEMPLATE
) -> None:
    """Save a checkpoint to `path`; `follows[word]` are the probabilities of the words after it, <eos> by default."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary = SPECIAL + words
    vocabulary += [f"<spare{place}>" for place in range(-len(vocabulary) % 8)]  # four heads of equal, even width
    size = len(vocabulary)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    head = torch.full((size, size), NEVER)  # row: next word, column: last word
    for place, word in enumerate(vocabulary):
        for next_word, probability in follows.get(word, {"<eos>": 1.0}).items():
            head[vocabulary.index(next_word), place] = math.log(probability)
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.copy_(head / math.sqrt(size))  # the norm turns a one-hot row into sqrt(size)
    model.save_pretrained(path)
    _tokenizer(vocabulary, chat_template).save_pretrained(path)


def _tokenizer(vocabulary: list[str], chat_template: str | None):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: place for place, word in enumerate(vocabulary)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")
    tokenizer.chat_template = chat_template
    return tokenizer
