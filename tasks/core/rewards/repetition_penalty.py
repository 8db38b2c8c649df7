"""repetition_penalty: the share of n-grams that have been said before, times a negative number.

Range: `max_penalty` to 0. Columns: none. For: against loops and padding, above all beside rewards for length. Source:
Demystifying Long Chain-of-Thought Reasoning (arXiv:2502.03373), appendix C.2; `get_repetition_penalty_reward` in TRL
1.16 (over token ids) and open-r1@1416fa0 (over words). Gamed by paraphrase and by counting up ("1, 2, 3, …"): no n-gram
comes twice. Honest work repeats n-grams too (an equation carried from line to line), so keep it small.
"""

import importlib.util
from typing import Any, Literal

from tasks.core.errors import UserError
from tasks.core.rewards.parameters import Penalty
from tasks.core.rewards.text import text_of


def make(*, ngram_size: int = 3, max_penalty: Penalty = -1.0, language: Literal["en", "zh"] | None = None) -> Any:
    """Reward (1 - distinct / all n-grams) * `max_penalty`; 0.0 for what is shorter than `ngram_size`.

    `language`: without it the n-grams are of token ids, as in TRL. `en` takes lower-cased words between blanks, `zh`
    words that jieba finds, as in open-r1. Raises UserError for `zh` where jieba is not installed.
    """
    if language == "zh" and importlib.util.find_spec("jieba") is None:
        raise UserError(
            "rewards.repetition_penalty.language is zh, and jieba, which finds Chinese words, is not installed: "
            "`pip install jieba`, or leave language out to compare token ids."
        )

    def repetition_penalty(completions: list[Any], completion_ids: list[list[int]], **columns: Any) -> list[float]:
        from trl.rewards import get_repetition_penalty_reward

        units = completion_ids if language is None else [_words(text_of(one), language) for one in completions]
        # TRL's counts n-grams of whatever it is given.
        return list(get_repetition_penalty_reward(ngram_size, max_penalty)(units))

    return repetition_penalty


def _words(text: str, language: Literal["en", "zh"]) -> list[str]:
    if language == "en":
        return text.lower().split()
    import jieba

    return list(jieba.cut(text))
