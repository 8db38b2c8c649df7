"""Judge a Countdown answer exactly, over rationals, with a parser of our own: no text is ever run as code.

Time and memory are bounded whatever the text: it has at most MAX_CHARS characters, every literal must be one of the
given numbers, and there is no power operator, so no value has more than MAX_CHARS digits. The parser keeps its own
stacks, so depth costs no recursion.

What is accepted, as people and models write it:
- `+ - * /`, and × · ⋅ ∗ ＊ • x X \\times \\cdot for *, ÷ ∕ ⁄ ／ \\div for /, − – － ＋ for - and +; a sign;
- ( ), [ ] and （ ）; \\left \\right; \\frac{a}{b}; $…$, \\(…\\), \\[…\\] and ` around the whole; a full stop after it;
- `expression = target`: the right side, when there is one, must be the target itself, else the answer is wrong.
Not accepted: any other operator, decimals, digits of other scripts, several `=`, two terms without an operator.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from tasks.core.verdict import Judgement, Verdict

TIER = "countdown"
MAX_CHARS = 1_000

_PRECEDENCE = {"(": 0, "[": 0, "+": 1, "-": 1, "*": 2, "/": 2, "negate": 3, "keep": 3}
_OPERATORS = frozenset("+-*/")
_SIGN_OF = {"-": "negate", "+": "keep"}
_OPENS = frozenset("([")
_CLOSES = {")": "(", "]": "["}
_PLAIN = re.compile(r"[0-9+\-*/()\[\]\s]*", re.ASCII)
_SPELLINGS = str.maketrans("×·⋅∗＊•xX÷∕⁄／−–－＋（）＝`$", "********////---+()=  ")
_LATEX = {r"\times": "*", r"\cdot": "*", r"\div": "/", r"\left": "", r"\right": "", r"\,": " ", r"\ ": " "}
_LATEX |= {r"\(": " ", r"\)": " ", r"\[": " ", r"\]": " ", r"\!": "", r"\;": " "}
_LATEX_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_TOKEN = re.compile(r"[0-9]+|\S")
_TIMES = {1: "once", 2: "twice"}


class _Bad(Exception):
    """Why the text is not a right answer, in a few words."""


def check(text: str, numbers: Sequence[int], target: int, *, use_all: bool = True) -> Judgement:
    """Judge `text`, the answer alone, against the problem: `correct`, `wrong` with a reason, or `no_answer` if empty.

    Each of `numbers` must be used exactly once (`use_all`), else at most once. Never raises on any text.
    """
    if len(text) > MAX_CHARS:
        return Judgement(Verdict.WRONG, TIER, text[:MAX_CHARS], f"longer than {MAX_CHARS} characters")
    if not text.strip():
        return Judgement(Verdict.NO_ANSWER, TIER, None, "empty answer")
    try:
        plain = text if _PLAIN.fullmatch(text) else _normalised(text, target)
        value, used = _evaluate(_TOKEN.findall(plain), _literals(tuple(numbers)))
        _check_numbers(used, numbers, use_all)
        if value != target:
            raise _Bad(f"gives {value}, not {target}")
    except _Bad as bad:
        return Judgement(Verdict.WRONG, TIER, text, str(bad))
    return Judgement(Verdict.CORRECT, TIER, text)


def judge_answer(answer: str | None, gold: str, *, truncated: bool = False, use_all: bool = True) -> Judgement:
    """Judge an extracted answer (None: there was none) against a gold such as '{"numbers": [3, 5], "target": 8}'."""
    problem = read_gold(gold)
    if problem is None:
        reason = f'the gold {gold[:80]!r} is not {{"numbers": [integers], "target": integer}}'
        return Judgement(Verdict.UNPARSABLE_GOLD, TIER, answer, reason)
    if answer is None:
        return Judgement(Verdict.TRUNCATED if truncated else Verdict.NO_ANSWER, TIER, None, "no answer")
    return check(answer, *problem, use_all=use_all)


@lru_cache(maxsize=65_536)
def read_gold(gold: str) -> tuple[tuple[int, ...], int] | None:
    """(numbers, target) of a gold in JSON, or None when it is not one."""
    try:
        value = json.loads(gold)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or set(value) != {"numbers", "target"}:
        return None
    numbers, target = value["numbers"], value["target"]
    if not isinstance(numbers, list) or not numbers or not all(map(_is_integer, [*numbers, target])):
        return None
    return (tuple(numbers), target) if min(numbers) >= 0 else None


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@lru_cache(maxsize=65_536)
def _literals(numbers: tuple[int, ...]) -> dict[str, int]:
    """The only literals that an expression over `numbers` may hold."""
    return {str(number): number for number in numbers}


def _normalised(text: str, target: int) -> str:
    """`text` in plain ASCII notation; what follows `=` is checked here and left out."""
    if "\\" in text:
        text = _LATEX_COMMAND.sub(_plain_command, _FRACTION.sub(r"((\1)/(\2))", text))
    text, equals, right = text.translate(_SPELLINGS).rstrip(" .。\n").partition("=")
    if equals and right.strip() != str(target):
        raise _Bad(f"says it equals {right.strip()[:40]!r}, not {target}")
    return text


def _plain_command(command: re.Match[str]) -> str:
    if command[0] not in _LATEX:
        raise _Bad(f"unexpected {command[0]!r}")
    return _LATEX[command[0]]


def _check_numbers(used: list[int], numbers: Sequence[int], use_all: bool) -> None:
    """Refuse a number used more often than given, or (use_all) less often."""
    if sorted(used) == sorted(numbers):
        return
    given, counts = Counter(numbers), Counter(used)
    for number, num_given in given.items():
        if counts[number] > num_given:
            also = f", given {_times(num_given)}" if num_given > 1 else ""
            raise _Bad(f"uses {number} {_times(counts[number])}{also}")
    for number, num_given in given.items():
        if use_all and not counts[number]:
            raise _Bad(f"does not use {number}")
        if use_all and counts[number] < num_given:
            raise _Bad(f"uses {number} {_times(counts[number])}, given {_times(num_given)}")


def _evaluate(tokens: list[str], literals: dict[str, int]) -> tuple[int | Fraction, list[int]]:
    """(value, numbers used) by operator precedence, with explicit stacks."""
    values: list[int | Fraction] = []
    used: list[int] = []
    pending: list[str] = []
    want_term = True
    for token in tokens:
        if want_term:
            if token in literals:
                values.append(literals[token])
                used.append(literals[token])
                want_term = False
            elif token in _OPENS:
                pending.append(token)
            elif token in _SIGN_OF:
                pending.append(_SIGN_OF[token])
            else:
                raise _unexpected(token, "a number")
        elif token in _OPERATORS:
            precedence = _PRECEDENCE[token]
            while pending and _PRECEDENCE[pending[-1]] >= precedence:
                _apply(pending.pop(), values)
            pending.append(token)
            want_term = True
        elif token in _CLOSES:
            while pending and pending[-1] not in _OPENS:
                _apply(pending.pop(), values)
            if not pending or pending.pop() != _CLOSES[token]:
                raise _Bad("the parentheses do not match")
        else:
            raise _unexpected(token, "an operator")
    if want_term:
        raise _Bad("a number is missing at the end")
    while pending:
        if pending[-1] in _OPENS:
            raise _Bad("the parentheses do not match")
        _apply(pending.pop(), values)
    return values[0], used


def _unexpected(token: str, missing: str) -> _Bad:
    """Why `token` cannot stand where `missing` was expected."""
    if token.isascii() and token.isdigit() and missing == "a number":
        return _Bad(f"uses {token[:20]}, which is not given")
    known = token in _PRECEDENCE or token in _CLOSES or (token.isascii() and token.isdigit())
    return _Bad(f"{missing} is missing before {token[:20]!r}" if known else f"unexpected {token!r}")


def _apply(operator: str, values: list[int | Fraction]) -> None:
    """Replace the last values by the operator's result; only a division with a remainder makes a Fraction."""
    right = values.pop()
    if operator == "+":
        values[-1] += right
    elif operator == "-":
        values[-1] -= right
    elif operator == "*":
        values[-1] *= right
    elif operator == "/":
        if right == 0:
            raise _Bad("divides by zero")
        left = values[-1]
        values[-1] = Fraction(left, right) if left % right else left // right
    else:
        values.append(-right if operator == "negate" else right)


def _times(num: int) -> str:
    return _TIMES.get(num, f"{num} times")
