"""The one extractor: which part of a completion is its answer."""

import pytest

from tasks.core.answer import MathAnswer, extract_boxed, extract_math, extract_tagged


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<think>a\nb</think>\n<answer> 3 + 5\n</answer>", "3 + 5"),
        ("a</think><answer>3 + 5</answer>", "3 + 5"),  # the prompt ended in <think>
        ("<answer>3 + 5</answer>", "3 + 5"),
        ("<think>t</think><answer>1</answer> no: <answer>2</answer>", "2"),
        ("<think>t</think><answer>1</answer><answer>2", "1"),
        ("<think>t</think><answer><answer>2</answer>", "2"),
        ("<think><answer>1</answer></think> so <answer>2</answer>", "2"),
        ("<think>t</think><answer>1</answer><think>more", "1"),
        ("<think>t</think><answer></answer>", ""),
    ],
)
def test_extract_tagged_last_answer_after_the_thought_is_taken(completion: str, answer: str) -> None:
    assert extract_tagged(completion) == answer


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "3 + 5",
        "<think>only a guess <answer>1</answer>",
        "<think>t <answer>1</answer></think> and then nothing",
        "<think>t</think><answer>1",
        "</answer><answer>",
    ],
)
def test_extract_tagged_without_a_closed_answer_is_none(completion: str) -> None:
    assert extract_tagged(completion) is None


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{a\}b}", r"a\}b"),
        ("no box", None),
        (r"\boxed{" * 50, None),
    ],
)
def test_extract_boxed_braces_are_balanced(text: str, content: str | None) -> None:
    assert extract_boxed(text) == content


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (r"<think>\boxed{1}</think> It is \boxed{2}.", MathAnswer("2", is_boxed=True)),
        (r"<think>t</think><answer>so \boxed{3}</answer>", MathAnswer("3", is_boxed=True)),
        (r"<think>t</think><answer>**42**.</answer>", MathAnswer("42", is_boxed=False)),
        (r"\boxed{1} <answer>4.</answer>", MathAnswer("4", is_boxed=False)),
        ("The answer is 42.", None),
    ],
)
def test_extract_math_box_in_tags_then_tags_then_box(completion: str, answer: MathAnswer | None) -> None:
    assert extract_math(completion) == answer


@pytest.mark.parametrize("piece", ["<answer>", "</answer>", "<think>", "</think>", r"\boxed{", "{", "\\", "x", "<"])
def test_extract_ten_megabytes_of_one_piece_do_not_backtrack(piece: str) -> None:
    # A quadratic search would take hours here.
    text = piece * (10_000_000 // len(piece))
    assert extract_tagged("<think>" + text) is None
    assert extract_boxed(text) is None
    assert extract_math(text + r"<answer>\boxed{7}</answer>") == MathAnswer("7", is_boxed=True) or piece == "<think>"
