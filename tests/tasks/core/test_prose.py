"""Languages and words of reflection, counted by hand."""

import pytest

from tasks.core.prose import REFLECTION, chinese_share, language_of


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0),
        ("an apple falls 我", 0.25),
        (r"$abc$ <think> \frac ```x y``` 我", 1),
        ("1 + 2", 0),
        ("我们", 1),
        ("设 x = 3，y = 5", 1),  # x and y name quantities
        (r"因为 \[ speed = way \] 和 `loop` 所以", 1),
    ],
)
def test_chinese_share_leaves_tags_math_code_and_quantities_out(text, share):
    assert chinese_share(text) == share


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("we add them", "en"),
        ("我们先算", "zh"),
        ("我们先算 then we add", "mixed"),  # 4 of 7
        ("我们先算一下这个 then", "mixed"),  # 8 of 9 is 0.889
        ("我们先算一下这个题目 then", "zh"),  # 10 of 11 is 0.909
        ("считаем", "none"),
        ("3 + 5 = 8", "none"),
        ("a\x00b we add", "en"),
        ("", "none"),
    ],
)
def test_language_of_a_tenth_of_each_makes_it_mixed(text, language):
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["I weighted it", "await", "recheckers", "不 对", "<think></think>"])
def test_reflection_words_that_only_look_like_it_do_not_count(text):
    assert REFLECTION.search(text) is None


def test_reflection_words_in_both_languages_are_all_found():
    assert REFLECTION.findall("Wait, hmmm. Let me re-check: 不对, 重新. WAIT") == [
        "Wait", "hmmm", "Let me re-check", "不对", "重新", "WAIT",
    ]  # fmt: skip
