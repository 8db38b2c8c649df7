"""What goes into the harness and what comes out. Plain data, nothing heavy."""

from dataclasses import dataclass

from tasks.core.verdict import Judgement


@dataclass(frozen=True)
class Question:
    """One question as the model sees it: `prompt` is the rendered chat template, `prompt_ids` its tokens."""

    problem_id: str
    task: str
    gold: str
    prompt: str
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True)
class Sampling:
    """How each question is sampled. `temperature` 0 is greedy decoding; `top_p` is in (0, 1]."""

    num_samples: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int


@dataclass(frozen=True)
class Completion:
    """One judged completion.

    `num_tokens` counts generated tokens with the closing end-of-text token and without padding, as TRL counts
    completion lengths. `truncated` means that max_new_tokens were written and none of them ended the text.
    """

    question: Question
    sample: int
    text: str
    num_tokens: int
    truncated: bool
    judgement: Judgement
