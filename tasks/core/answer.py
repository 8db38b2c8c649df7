"""Find the answer in a completion: one extractor for rewards, verification and evaluation.

Only the final part counts: what follows the last `</think>`, or everything when there is none (a prompt may end in
`<think>`, so a completion may hold only the closing tag); a `<think>` that opens there and never closes ends it. Plain
searches, no backtracking: 10 MB take milliseconds.
"""

import re
from typing import NamedTuple

MAX_ANSWER_CHARS = 5_000
MAX_BOXES_TRIED = 8


class MathAnswer(NamedTuple):
    """An answer's text, and whether it stood in a box (else in answer tags, perhaps as a sentence)."""

    text: str
    is_boxed: bool


_BOX = r"\boxed{"
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def final_part(completion: str) -> str:
    """What follows the last `</think>` (everything, if there is none), up to a thought that opens there."""
    closing = completion.rfind("</think>")
    start = 0 if closing < 0 else closing + len("</think>")
    opening = completion.find("<think>", start)
    return completion[start:] if opening < 0 else completion[start:opening]


def extract_tagged(completion: str) -> str | None:
    """The text of the last complete `<answer>…</answer>` of the final part, stripped, or None."""
    final = final_part(completion)
    end = final.rfind("</answer>")
    start = final.rfind("<answer>", 0, end) if end >= 0 else -1
    return final[start + len("<answer>") : end].strip() if start >= 0 else None


def extract_boxed(text: str) -> str | None:
    """The content of the last `\\boxed{…}` whose braces balance within MAX_ANSWER_CHARS, stripped, or None.

    Escaped braces do not count. A box inside a box is part of the outer one's content only when the outer comes last.
    """
    position = len(text)
    for _ in range(MAX_BOXES_TRIED):
        position = text.rfind(_BOX, 0, position)
        if position < 0:
            return None
        content = _balanced(text, position + len(_BOX))
        if content is not None:
            return content.strip()
    return None


def extract_math(completion: str) -> MathAnswer | None:
    """The answer to a mathematical question: the box in the last `<answer>`, else that answer, else the last box.

    A full stop and Markdown's ** around it are left out. A completion with neither tags nor box has no answer.
    """
    tagged = extract_tagged(completion)
    boxed = extract_boxed(final_part(completion) if tagged is None else tagged)
    if boxed is not None:
        return MathAnswer(tidy(boxed), is_boxed=True)
    return None if tagged is None else MathAnswer(tidy(tagged), is_boxed=False)


def tidy(text: str) -> str:
    """`text` without blanks, a final full stop and Markdown's ** around it."""
    return text.strip().rstrip(".。").removeprefix("**").removesuffix("**").rstrip(" .。")


def _balanced(text: str, start: int) -> str | None:
    """text[start:…] up to the brace that closes the one before `start`."""
    depth = 1
    for brace in _BRACE.finditer(text, start, start + MAX_ANSWER_CHARS):
        if brace[0] == "{":
            depth += 1
        elif brace[0] == "}":
            depth -= 1
            if depth == 0:
                return text[start : brace.start()]
    return None
