"""The line that a benchmark asks for, as models write it."""

import pytest

from tasks.core.answer import extract_math
from tasks.core.answer_line import tag_asked_line


def answer(completion: str, *, is_choice: bool = False) -> str | None:
    found = extract_math(tag_asked_line(completion, is_choice=is_choice))
    return found.text if found else None


@pytest.mark.parametrize(
    ("completion", "wanted"),
    [
        ("So it is.\nANSWER: \\frac{14}{3}", "\\frac{14}{3}"),
        ("ANSWER: $\\frac{14}{3}$.", "\\frac{14}{3}"),
        ("ANSWER: \\(x^2\\)", "x^2"),
        ("**ANSWER:** 1,234", "1,234"),
        ("ANSWER: $18", "$18"),
        ("ANSWER: $\\boxed{7}$", "7"),
        ("It is \\boxed{3}, no.\nANSWER: 4", "4"),
        ("ANSWER: 1\nI was wrong.\nANSWER: 2", "2"),
        ("ANSWER: $x=1$ and $y=2$", "$x=1$ and $y=2$"),
        ("> Answer: 5", "5"),
    ],
)
def test_tag_asked_line_whole_line_is_the_answer(completion, wanted):
    assert answer(completion) == wanted


@pytest.mark.parametrize(
    ("completion", "wanted"),
    [
        ("Answer: B", "B"),
        ("**Answer: C**", "C"),
        ("Answer: (D) 5.2 kg m", "D"),
        ("Answer: A) it falls", "A"),
        ("Answer: $B$", "B"),
        ("Answer: $\\boxed{\\text{B}}$", "B"),
        ("Answer: \\boxed{D}", "D"),
        ("It must be \\boxed{B) 5.2 kg m}.", "B"),
        ("Answer: none of them", None),
        ("Answer: Because of C", None),
    ],
)
def test_tag_asked_line_of_a_choice_is_its_letter(completion, wanted):
    assert answer(completion, is_choice=True) == wanted


@pytest.mark.parametrize(
    "completion",
    [
        "No line at all.",
        "ANSWER:",
        "<think>ANSWER: 3</think>I cannot tell.",
        "The answer: 7 apples is in the middle of a line, ANSWER: 7",
        "<answer>5</answer>\nANSWER: 6",
    ],
)
def test_tag_asked_line_without_one_to_take_is_unchanged(completion):
    assert tag_asked_line(completion, is_choice=False) == completion


def test_tag_asked_line_after_the_thought_is_taken():
    assert answer("<think>ANSWER: 3</think>\nANSWER: 4") == "4"


def test_tag_asked_line_with_an_unclosed_brace_is_the_text_itself():
    assert answer("ANSWER: {broken") == "{broken"
