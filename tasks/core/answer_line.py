"""The answer on the line that a benchmark's prompt asks for, "ANSWER: 42" or "Answer: C", put where extraction looks.

`extract_stated` (answer.py) reads such a line too, but only what is plain: it must not take a sentence for an answer.
Where the prompt has asked for the line, all of it is the answer.
"""

import re

from tasks.core.answer import extract_boxed, extract_tagged, final_part

_LINE = re.compile(r"^[\s>*_#]*answer[\s*_]*:(?P<rest>.*)$", re.IGNORECASE | re.MULTILINE)
_LETTER = re.compile(r"(?:[\s$*_(\[\\{]|(?:boxed|text|textbf|mathrm|mathbf)\{)*(?P<letter>[A-Z])(?![A-Za-z])")
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))


def tag_asked_line(completion: str, *, is_choice: bool) -> str:
    """`completion`, with the answer of the last such line of its final part in <answer> tags behind it.

    For `is_choice` the answer is the letter with which the line begins, or the last box where there is no such line:
    "\\boxed{B) 5 m}" is B. The completion comes back unchanged when there is neither, or when there are answer tags.
    """
    if extract_tagged(completion) is not None:
        return completion
    final = final_part(completion)
    lines = list(_LINE.finditer(final))
    rest = lines[-1]["rest"].strip().strip("*_").strip() if lines else ""
    if is_choice:
        found = _LETTER.match(rest or extract_boxed(final) or "")
        rest = found["letter"] if found else ""
    return f"{completion}\n<answer>{_boxed(rest)}</answer>" if rest else completion


def _boxed(text: str) -> str:
    """`text` in a box, unless it has one: Math-Verify reads bare LaTeX only there."""
    if extract_boxed(text) is not None:
        return text
    text = text.removesuffix(".").rstrip()
    for opening, closing in _DELIMITERS:
        inner = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and inner.strip() and opening not in inner:
            text = inner.strip()
            break
    boxed = rf"\boxed{{{text}}}"
    return boxed if extract_boxed(boxed) == text else text
