"""language_consistency: letters of a language's script over all letters outside code and mathematics."""

from typing import Any

import pytest

from tasks.core.rewards.language_consistency import count_letters
from tests.tasks.core.rewards.reward_calls import chat, reward


def share(text: Any, language: str, **more: Any) -> float | None:
    return reward({"language_consistency": {"weight": 1.0, "language": language, **more}}, text)


@pytest.mark.parametrize(
    ("text", "zh", "en"),
    [
        ("我们先算乘法，再算加法。", 1.0, 0.0),
        ("We multiply first, then add.", 0.0, 1.0),
        ("先算 add", 2 / 5, 3 / 5),
        ("then считать", 0.0, 4 / 11),  # another script counts against both
        (chat("先算"), 1.0, 0.0),
        ("", 0.0, 0.0),
        ("3 * 5 + 7 = 22", 0.0, 0.0),  # no letter of any language: nothing was shown
        ("<think>好</think><answer>3</answer>", 1.0, 0.0),
    ],
)
def test_language_consistency_is_the_share_of_letters(text: Any, zh: float, en: float) -> None:
    assert share(text, "zh") == pytest.approx(zh)
    assert share(text, "en") == pytest.approx(en)


@pytest.mark.parametrize(
    "text",
    [
        "设 x = 3，AB = CD，角 ABC，x_1 和 2ab",
        "所以 sin x + log y 是 5 km",
        "代码\n```python\nfor item in numbers: print(item)\n```\n完",
        "代码\n```python\nfor item in numbers: never closed",
        "变量 `counter` 加一",
        r"因为 $\text{speed} = \frac{distance}{time}$ 所以",
        "$$\nspeed = distance\n$$ 好",
        r"\(speed\) 和 \[ speed \] 和 \boxed{speed}",
        r"\begin{align} speed &= distance \end{align} 好",
        "角 αβγ 与 ｘｙ 与 𝑥𝑦 与 ℝ",
    ],
)
def test_language_consistency_code_mathematics_and_names_of_quantities_do_not_count(text: str) -> None:
    assert share(text, "zh") == 1.0


def test_language_consistency_lone_dollars_and_capitals_hide_nothing() -> None:
    assert count_letters("it costs $5\nand another $ five") == {"han": 0, "latin": 21, "other": 0}
    assert count_letters("a `tick\nand another` more") == {"han": 0, "latin": 18, "other": 0}
    assert count_letters("SHOUTING RSA") == {"han": 0, "latin": 8, "other": 0}
    assert count_letters(r"so \( opens only") == {"han": 0, "latin": 11, "other": 0}


def test_language_consistency_short_texts_earn_in_proportion() -> None:
    assert share("好", "zh") == 1.0
    assert share("好", "zh", min_letters=20) == 0.05
    assert share("好" * 15 + "word", "zh", min_letters=20) == 0.75  # 15 of 19 letters, but 20 are asked for


def test_language_consistency_thought_alone_can_be_asked() -> None:
    text = "<think>先算 add</think>Then multiply"
    assert share(text, "zh", part="thought") == 0.4
    assert share(text, "zh") == pytest.approx(2 / 17)
    assert share("先算</think>Then", "zh", part="thought") == 1.0
    assert share("<think>先算", "zh", part="thought") == 0.0
