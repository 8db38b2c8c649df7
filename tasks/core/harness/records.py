"""What goes into the harness and what comes out. Plain data, nothing heavy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tasks.core.thinking import Thinking
from tasks.core.verdict import Judgement


@dataclass(frozen=True)
class Question:
    """One question as the model sees it: `prompt` is the rendered chat template, `prompt_ids` its tokens.

    For a server, which renders and counts for itself, `chat` are the messages, `prompt` shows them and `prompt_ids` is
    empty.
    """

    problem_id: str
    task: str
    gold: str
    prompt: str
    prompt_ids: tuple[int, ...]
    chat: tuple[dict[str, str], ...] = ()

    @classmethod
    def of_chat(cls, problem_id: str, task: str, gold: str, chat: Sequence[dict[str, str]]) -> Self:
        """A question for a server."""
        prompt = "\n\n".join(f"{message['role']}: {message['content']}" for message in chat)
        return cls(problem_id, task, gold, prompt, (), tuple(chat))


@dataclass(frozen=True)
class Sampling:
    """How each question is sampled. `temperature` 0 is greedy decoding; `top_p` is in (0, 1].

    `thinking` is the budget that is forced on thoughts, None for none.
    """

    num_samples: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int
    thinking: Thinking | None = None


@dataclass(frozen=True)
class Thought:
    """What a budget made of one thought.

    `num_tokens` are the tokens before its end, with an opening tag and the `num_waits` words that made it go on; all
    tokens of a completion that ends without the end of a thought.
    """

    num_tokens: int
    num_waits: int
    was_forced_to_end: bool


@dataclass(frozen=True)
class Completion:
    """One judged completion.

    `num_tokens` counts generated tokens with the closing end-of-text token and without padding, as TRL counts
    completion lengths. `truncated` means that max_new_tokens were written and none of them ended the text. `thought` is
    None where no budget was forced.
    """

    question: Question
    sample: int
    text: str
    num_tokens: int
    truncated: bool
    judgement: Judgement
    thought: Thought | None = None
