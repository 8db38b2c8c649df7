"""format's layouts, tag_count and reasoning_steps: open-r1's and TRL's semantics, and texts made to stall a regex."""

import time
from typing import Any

import pytest

from tests.tasks.core.rewards.reward_calls import chat, reward, rewards

OPEN_R1 = "<think>\nSome work\n</think>\n<answer>\n9\n</answer>"
CODE = "<think>\nplan\n</think>\n<answer>\n```python\nprint(1)\n```\n</answer>"


def layout(name: str, **more: Any) -> dict[str, Any]:
    return {"format": {"weight": 1.0, "layout": name, **more}}


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (OPEN_R1, 1.0),
        (chat(OPEN_R1), 1.0),
        ("<think>\n\n</think>\n<answer>\n\n</answer>", 1.0),  # blank parts are none of its business
        ("<think>\na\n</think>\n<answer>\n9\n</answer>\nand more", 1.0),  # its $ takes the end of any line
        ("<think>\na\n</think>\n<answer>\n9\n</answer> and more", 0.0),
        ("<think>\n</think>\n<answer>\n9\n</answer>", 0.0),
        ("<think>a\n</think>\n<answer>\n9\n</answer>", 0.0),
        ("<think>\na\n</think>\n\n<answer>\n9\n</answer>", 0.0),
        ("<think>\na\n</think>\n<answer>\n9</answer>", 0.0),
        (" <think>\na\n</think>\n<answer>\n9\n</answer>", 0.0),
        ("<think>Only a thought</think>", 0.0),
        ("<think>wrong</answer><answer>order</think>", 0.0),
        ("", 0.0),
    ],
)
def test_format_open_r1_wants_each_tag_on_its_own_line(completion: Any, expected: float) -> None:
    assert reward(layout("open_r1"), completion) == expected


def test_format_open_r1_open_thought_counts_the_line_break_as_written() -> None:
    assert reward(layout("open_r1", thought_is_open=True), OPEN_R1.removeprefix("<think>\n")) == 1.0
    assert reward(layout("open_r1", thought_is_open=True), OPEN_R1.removeprefix("<think>")) == 1.0


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<think>work</think>answer", 1.0),
        ("<think>\nwork <b>here</b>\n</think>\nanswer", 1.0),
        ("<think></think>answer", 1.0),
        ("<think>work</think>", 1.0),
        ("<think>work, answer", 0.0),
        ("work</think>answer", 0.0),
        ("So<think>work</think>answer", 0.0),
        ("<think>a<think>b</think></think>answer", 0.0),
        ("<think>a</think>\nb\n<think>c</think>\nanswer", 0.0),
        ("", 0.0),
    ],
)
def test_format_think_wants_one_thought_at_the_start(completion: str, expected: float) -> None:
    assert reward(layout("think"), completion) == expected


@pytest.mark.parametrize(
    ("name", "completion", "expected"),
    [
        ("open_r1", CODE, 1.0),
        ("open_r1", CODE.replace("plan", "```python\nx = 1\n```"), 1.0),
        ("open_r1", CODE.replace("```python", "```javascript"), 0.0),
        ("open_r1", CODE.replace("\n```\n", "\n"), 0.0),
        ("open_r1", OPEN_R1.replace("Some work", "```python\nx = 1\n```"), 0.0),  # in the thought only
        ("think_answer", "<think>a</think><answer>```python\n1\n```</answer>", 1.0),
        ("think_answer", "<think>```python\n1\n```</think><answer>1</answer>", 0.0),
    ],
)
def test_format_code_language_wants_a_block_in_the_answer(name: str, completion: str, expected: float) -> None:
    assert reward(layout(name, code_language="python"), completion) == expected


@pytest.mark.parametrize(
    ("completion", "exact", "bare"),
    [
        (OPEN_R1, 1.0, 1.0),
        (OPEN_R1.removeprefix("<think>\n"), 0.75, 0.75),
        (OPEN_R1.replace("</think>\n", ""), 0.75, 0.75),
        (OPEN_R1.replace("<answer>\n", ""), 0.75, 0.75),
        (OPEN_R1.removesuffix("\n</answer>"), 0.75, 0.75),
        ("<think>a</think><answer>1</answer>", 0.0, 1.0),
        (OPEN_R1 + OPEN_R1, 0.0, 0.0),
        ("Some work, 9", 0.0, 0.0),
    ],
)
def test_tag_count_gives_a_quarter_for_each_tag_that_stands_once(completion: str, exact: float, bare: float) -> None:
    assert reward({"tag_count": 1.0}, completion) == exact
    assert reward({"tag_count": {"weight": 1.0, "layout": "think_answer"}}, completion) == bare


def test_tag_count_open_thought_is_counted_as_written() -> None:
    spec = {"tag_count": {"weight": 1.0, "thought_is_open": True}}
    assert reward(spec, OPEN_R1.removeprefix("<think>\n")) == 1.0
    assert reward(spec, OPEN_R1) == 0.75  # a second one


@pytest.mark.parametrize(
    ("completion", "num_marks"),
    [
        ("Step 1: add\nStep 2: divide\nStep 12: done", 3),
        ("First, add.\nSecond, divide.\nNext, look.\nFinally, say.", 4),
        ("Step 1: add", 1),
        ("1. add\n2. divide\n3. done", 3),  # open-r1's expression sees the first line only
        ("so\n- add\n* divide", 2),
        ("- add", 0),
        ("First comes 1.5, step 1: no", 0),
        ("", 0),
    ],
)
def test_reasoning_steps_are_full_from_three_marks_on(completion: str, num_marks: int) -> None:
    assert reward({"reasoning_steps": 1.0}, completion) == pytest.approx(min(1.0, num_marks / 3))
    assert reward({"reasoning_steps": {"weight": 1.0, "num_steps": 8}}, completion) == num_marks / 8


PIECES = (
    "<think>",
    "</think>",
    "\n",
    "\n</think>\n<answer>\n",
    "\n</answer>",
    "Step 1",
    "1",
    "$a\n",
    r"\(",
    "```",
    "` ",
    "好x",
)


def test_rewards_long_senseless_texts_take_no_time() -> None:
    texts = [lead + piece * (100_000 // len(piece)) for piece in PIECES for lead in ("", "<think>\n", OPEN_R1)]
    specs: list[dict[str, Any]] = [layout(name) for name in ("think_answer", "open_r1", "think")]
    specs += [layout("open_r1", code_language="python"), {"tag_count": 1.0}, {"reasoning_steps": 1.0}]
    specs += [{"language_consistency": {"weight": 1.0, "language": "zh", "part": part}} for part in ("all", "thought")]
    specs += [{"repetition_penalty": {"weight": 1.0, "language": "en"}}]
    started = time.process_time()
    for spec in specs:
        rewards(spec, texts)
    assert time.process_time() - started < 10  # 324 texts; 2 s on a busy core
