"""language_consistency: the share of the text's letters that belong to the language asked for.

Range: 0 to 1. Columns: none. For: against thoughts that mix languages. Source: DeepSeek-R1 (arXiv:2501.12948), §2.3.2,
where it is the share of target-language words in the thought, added to accuracy with equal weight, and cost a little
accuracy; here characters, so that Chinese needs no word splitter.

What counts: Han characters for `zh`, Latin letters for `en`, and letters of any other script against both. So it knows
scripts, not languages: French counts as English, and Japanese kanji as Chinese. What does not count: numbers,
punctuation, tags, code (fenced or between backticks), mathematics (between dollar signs on one line or in a block,
\\(…\\), \\[…\\], \\boxed{…}, LaTeX commands and environments), Greek letters and mathematical signs, and Latin letters
that name a quantity: single letters, up to six capitals (AB, RSA), letters that touch a digit or underscore, functions
and units (sin, km).

Gamed by writing the other language inside code or mathematics, or by saying one word and nothing more: `min_letters`
makes a short text earn in proportion. An empty text earns 0. Chinese packs more into a letter, so a term of foreign
origin weighs more in `zh` than its words would.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

from tasks.core.rewards.text import text_of, thought_of

# Opening to closing. A fence that never closes is code to the end; any other opening alone is plain text.
_HIDDEN = {
    "```": re.compile("```"),
    "`": re.compile("`"),
    "$$": re.compile(r"\$\$"),
    "$": re.compile(r"\$"),
    r"\(": re.compile(r"\\\)"),
    r"\[": re.compile(r"\\\]"),
    r"\boxed{": re.compile(r"\}"),
    r"\begin{": re.compile(r"\\end\{[^{}\n]{0,40}\}"),
}
_OPENING = re.compile("|".join(map(re.escape, sorted(_HIDDEN, key=len, reverse=True))))
_ON_ONE_LINE = ("$", "`")
_NOT_TEXT = re.compile(r"</?[A-Za-z][\w-]{0,40}>|\\[A-Za-z]+")
_HAN = "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
# Greek, superscripts and letter-like signs, full-width letters, mathematical alphabets.
_SIGNS = "\u0370-\u03ff\u2070-\u214f\uff21-\uff3a\uff41-\uff5a\U0001d400-\U0001d7ff"
_WORD = re.compile(rf"(?P<han>[{_HAN}]+)|(?P<latin>[{_LATIN}0-9_]+)|(?P<other>[^\W\d_{_HAN}{_LATIN}{_SIGNS}]+)")
_IN_A_NAME = re.compile("[0-9_]")
_MAX_CAPITALS = 6
_QUANTITIES = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan log ln lg exp lim max min mod gcd lcm det deg "
    "mm cm dm km mg kg ml dl ms kmh mph Hz kHz MHz Pa kPa kJ kW kWh".split()
)


def make(*, language: Literal["zh", "en"], part: Literal["all", "thought"] = "all", min_letters: int = 1) -> Any:
    """Reward: letters of `language` over all letters, or over `min_letters` where there are fewer.

    `part`: the whole completion, or only its thought, as in the paper; a thought that never ends earns 0.
    """

    def language_consistency(completions: list[Any], **columns: Any) -> list[float]:
        texts = [text_of(completion) for completion in completions]
        if part == "thought":
            texts = [thought_of(text) or "" for text in texts]
        return [_share(count_letters(text), language, min_letters) for text in texts]

    return language_consistency


def _share(num_letters: dict[str, int], language: str, min_letters: int) -> float:
    return num_letters["han" if language == "zh" else "latin"] / max(sum(num_letters.values()), min_letters)


def count_letters(text: str) -> dict[str, int]:
    """Letters outside code and mathematics by script: {"han": , "latin": , "other": }, as the module says."""
    num_letters = {"han": 0, "latin": 0, "other": 0}
    for script, word in _words(text):
        num_letters[script] += len(word)
    return num_letters


def count_words(text: str) -> dict[str, int]:
    """As `count_letters`, but Latin words, Han characters and unbroken runs of other scripts."""
    num_words = {"han": 0, "latin": 0, "other": 0}
    for script, word in _words(text):
        num_words[script] += len(word) if script == "han" else 1
    return num_words


def _words(text: str) -> Iterator[tuple[str, str]]:
    """(script, word) of what counts."""
    for word in _WORD.finditer(_NOT_TEXT.sub(" ", _outside_code_and_math(text))):
        script = word.lastgroup or "other"
        if script != "latin" or not _is_quantity(word[0]):
            yield script, word[0]


def _is_quantity(word: str) -> bool:
    """Whether Latin letters stand for a quantity, a function or a unit rather than a word."""
    is_short_name = len(word) == 1 or (len(word) <= _MAX_CAPITALS and word.isupper())
    return is_short_name or word in _QUANTITIES or _IN_A_NAME.search(word) is not None


def _outside_code_and_math(text: str) -> str:
    """`text` without what stands in code or mathematics. Linear: a closing that is not there is looked for once."""
    kept, position, never_closed = [], 0, set()
    while opening := _OPENING.search(text, position):
        kept.append(text[position : opening.start()])
        position = opening.end()
        if opening[0] in never_closed:
            continue
        closing = _HIDDEN[opening[0]].search(text, position)
        if closing is None and opening[0] == "```":
            return " ".join(kept)
        if closing is None:
            never_closed.add(opening[0])
        elif opening[0] not in _ON_ONE_LINE or "\n" not in text[position : closing.start()]:
            position = closing.end()
    return " ".join([*kept, text[position:]])
