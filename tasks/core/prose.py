"""What can be counted in a completion's words: languages, and words of reflection.

DeepSeek-R1 (arXiv:2501.12948, section 2.2.4) tells of an "aha moment", in which the model stops and thinks again. Words
of reflection are counted so that one can look for it; base models write such words too (Oat-Zero, arXiv:2503.20783,
section 2), so compare a model with the one that it was trained from. The words say nothing of whether the second look
was any good.
"""

import re

from tasks.core.rewards.language_consistency import count_words

REFLECTION = re.compile(
    r"\b(?:wait|hmm+|aha|on second thought|let me (?:re-?)?(?:check|verify|think again)|re-?(?:check|examine|evaluate)"
    r"|start over|that(?:'s| is) (?:not right|wrong)|alternatively)\b"
    r"|等等|等一下|再想想|重新|检查一下|验证一下|不对|换个思路",
    re.IGNORECASE,
)
"""Words and phrases of somebody who doubts and looks again."""
MIXED_FROM = 0.1
"""A completion mixes languages when each makes up this share of its words, a Chinese character counted as a word."""
LANGUAGES = ("zh", "en", "mixed", "none")


def chinese_share(text: str) -> float:
    """Chinese characters over these and Latin words, from 0 to 1; 0 where there is neither.

    Tags, mathematics, code and names of quantities are left out, as the reward `language_consistency` leaves them out.
    """
    num_chinese, num_latin = _count(text)
    return num_chinese / (num_chinese + num_latin) if num_chinese else 0.0


def language_of(text: str) -> str:
    """One of LANGUAGES: "en" is whatever is written in Latin letters, "none" a text without Latin or Chinese words."""
    num_chinese, num_latin = _count(text)
    if not num_chinese + num_latin:
        return "none"
    share = num_chinese / (num_chinese + num_latin)
    return "mixed" if MIXED_FROM <= share <= 1 - MIXED_FROM else "zh" if share > 0.5 else "en"


def _count(text: str) -> tuple[int, int]:
    words = count_words(text)
    return words["han"], words["latin"]
