"""Prompt and completion against the model's context, with the model's own tokenizer where it is known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.preflight.finding import Finding
from tasks.core.preflight.model_shape import ModelShape
from tasks.core.preflight.training import Training

USUAL_PROMPT = 512
"""Tokens of a long prompt where neither tokenizer nor problems are known."""
TEMPLATE_TOKENS = 16
"""What a chat template adds to the text of a message, about."""
NUM_COUNTED = 64
"""Prompts of the most characters, and of the fewest, that are tokenized."""


@dataclass(frozen=True)
class PromptLengths:
    """Tokens of the shortest and of the longest prompt, the template's about TEMPLATE_TOKENS included."""

    shortest: int
    longest: int


def measure_prompts(checkpoint: Path, texts: Sequence[str]) -> PromptLengths | None:
    """Tokenize the shortest and the longest of `texts`; None without texts or a tokenizer.json."""
    from tokenizers import Tokenizer

    if not texts or not (checkpoint / "tokenizer.json").is_file():
        return None
    ordered = sorted(set(texts), key=len)
    chosen = ordered if len(ordered) <= 2 * NUM_COUNTED else [*ordered[:NUM_COUNTED], *ordered[-NUM_COUNTED:]]
    encoded = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).encode_batch(chosen, add_special_tokens=False)
    counts = [len(one.ids) + TEMPLATE_TOKENS for one in encoded]
    return PromptLengths(min(counts), max(counts))


def check_lengths(training: Training, shape: ModelShape | None, prompts: PromptLengths | None) -> Iterator[Finding]:
    """Refuse where no completion could have its full length; warn where some could not."""
    context = shape.context if shape else None
    if not training.has_rollouts:
        if context and training["max_length"] and training["max_length"] > context:
            yield Finding(
                "warn",
                f"sft.max_length is {training['max_length']}, but the model's context is {context} tokens: it has "
                "never seen such positions. Lower it, or raise max_position_embeddings and rope_theta in "
                "config_overrides of fetch_model.",
            )
        return
    completion, limit = training["max_completion_length"], training["vllm_max_model_length"]
    if context:
        yield from _against(training, completion, prompts, context, f"the model's context is {context} tokens")
    if training["use_vllm"] and limit:
        if context and limit > context:
            yield Finding(
                "refuse",
                f"{training.kind}.vllm_max_model_length is {limit}, which vLLM refuses for a model whose context is "
                f"{context}: give {context} or less.",
            )
        yield from _against(training, completion, prompts, limit, f"vllm_max_model_length is {limit}")


def _against(
    training: Training, completion: int, prompts: PromptLengths | None, limit: int, said: str
) -> Iterator[Finding]:
    key = f"{training.kind}.max_completion_length"
    shortest, longest = (prompts.shortest, prompts.longest) if prompts else (1, 1)
    room = limit - longest if longest < limit else limit // 2
    if shortest + completion > limit:
        with_prompt = f" with the shortest prompt of about {shortest} tokens" if prompts else ""
        yield Finding("refuse", f"{key} is {completion}{with_prompt}, but {said}: give at most {room}.")
    elif longest + completion > limit:
        yield Finding(
            "warn",
            f"{key} is {completion} and the longest prompt has about {longest} tokens, but {said}: give at most "
            f"{room}, or leave long prompts out in prepare_data.",
        )
