"""Budget forcing by hand: what is written, fed back and counted, for models that say what a test lets them say."""

from types import SimpleNamespace

import pytest

import tasks.core.harness  # noqa: F401  (relaxes a requirement before lighteval checks it)
from tasks.core.checkpoint import Checkpoint
from tasks.core.errors import UserError
from tasks.core.harness.budget import Budget
from tasks.core.harness.records import Thought
from tasks.core.thinking import Thinking

WORDS = ["<pad>", "<eos>", "<unk>", "ask", "hm", "so", "Wait", "</think>", "Final", "8", "<answer>"]


@pytest.fixture(scope="module")
def words():
    """A tokenizer with one token a word; <eos> is 1."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>")


@pytest.fixture(scope="module")
def bytes_merged():
    """A byte-level BPE that writes "hm.</think>" as hm, ".</", "think" and ">", which takes two line breaks along."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "m"), (".", "<"), (".<", "/"), ("t", "h"), ("th", "i"), ("thi", "n"), ("thin", "k")]
    merges += [("Ċ", "Ċ"), (">", "ĊĊ")]  # Ċ stands for a line break
    vocabulary = ["<eos>", *alphabet, *(left + right for left, right in merges)]
    tokenizer = Tokenizer(models.BPE({word: place for place, word in enumerate(vocabulary)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


class Model:
    """Says its texts one after the other, a list for each row, cut at the limit; remembers what it was asked."""

    def __init__(self, tokenizer, *texts: list[str]) -> None:
        self.tokenizer, self.texts = tokenizer, [list(row) for row in texts]
        self.asked: list[tuple[list[str], list[int], str | None]] = []

    def __call__(self, contexts, limits, stop):
        """The row is known by its prompt: one token, the row's number."""
        shown = [self.tokenizer.decode(context[1:]) for context in contexts]
        self.asked.append((shown, limits, stop))
        said = [self.texts[context[0]].pop(0) for context in contexts]
        return [
            self.tokenizer.encode(text, add_special_tokens=False)[:limit]
            for text, limit in zip(said, limits, strict=True)
        ]


def complete(tokenizer, *texts: list[str], max_new_tokens: int = 12, **thinking):
    """Texts and thoughts of the rows, and the model that was asked."""
    end = tokenizer.convert_tokens_to_ids("<eos>")
    checkpoint = Checkpoint(SimpleNamespace(), tokenizer, (end,), None)  # type: ignore[arg-type]
    bounds = {"min_tokens": None, "max_tokens": None}
    budget = Budget(Thinking(**(bounds | thinking)), checkpoint, max_new_tokens)
    model = Model(tokenizer, *texts)
    tokens, thoughts = budget.complete([[row] for row in range(len(texts))], model)
    assert all(len(row) <= max_new_tokens for row in tokens)
    assert not any(model.texts), "not all was asked for"
    return [tokenizer.decode(row) for row in tokens], thoughts, model


def test_budget_thought_that_ends_too_early_waits_and_goes_on(words):
    """hm </think> is one token of thought: below three. hm Wait so hm is four."""
    texts, thoughts, model = complete(words, ["hm </think>", "so hm </think>", "8 <eos>"], min_tokens=3)
    assert texts == ["hm Wait so hm </think> 8 <eos>"]
    assert thoughts == [Thought(4, 1, False)]
    assert [shown for (shown,), _, _ in model.asked] == ["", "hm Wait", "hm Wait so hm </think>"]
    assert [stop for _, _, stop in model.asked] == ["</think>", "</think>", None]


def test_budget_thought_that_is_too_long_is_ended_and_the_rest_is_for_the_answer(words):
    """Four tokens of thought, one that ends it: seven of twelve are left."""
    texts, thoughts, model = complete(words, ["hm hm hm hm hm hm", "8 <eos>"], max_tokens=4)
    assert texts == ["hm hm hm hm </think> 8 <eos>"]
    assert thoughts == [Thought(4, 0, True)]
    assert [limits for _, limits, _ in model.asked] == [[4], [7]]


def test_budget_thought_within_it_is_left_alone(words):
    texts, thoughts, _ = complete(words, ["hm so hm </think>", "8 <eos>"], min_tokens=3, max_tokens=4)
    assert texts == ["hm so hm </think> 8 <eos>"]
    assert thoughts == [Thought(3, 0, False)]


def test_budget_end_of_text_in_the_thought_is_an_end_too(words):
    """The first is suppressed, at one token; the second, at three, is believed, and there is no answer to ask for."""
    texts, thoughts, model = complete(words, ["hm <eos>", "so <eos>"], min_tokens=3)
    assert texts == ["hm Wait so <eos>"]
    assert thoughts == [Thought(3, 1, False)]
    assert len(model.asked) == 2


def test_budget_without_a_most_the_length_limit_cuts_the_thought(words):
    texts, thoughts, _ = complete(words, ["hm " * 30], max_new_tokens=5, min_tokens=2)
    assert texts == ["hm hm hm hm hm"]
    assert thoughts == [Thought(5, 0, False)]


def test_budget_model_that_always_ends_waits_until_the_least(words):
    """Each wait is a token of thought: after the fourth the end is believed."""
    texts, thoughts, _ = complete(words, ["</think>"] * 5 + ["8 <eos>"], min_tokens=4)
    assert texts == ["Wait Wait Wait Wait </think> 8 <eos>"]
    assert thoughts == [Thought(4, 4, False)]


def test_budget_end_is_believed_after_so_many_waits(words):
    """As in s1's "Wait" 2x: the least is the most, and the third end counts, though twelve tokens fit."""
    said = ["hm </think>", "so <eos>", "hm </think>", "8 <eos>"]
    texts, thoughts, _ = complete(words, said, max_new_tokens=20, min_tokens=12, max_tokens=12, max_waits=2)
    assert texts == ["hm Wait so Wait hm </think> 8 <eos>"]
    assert thoughts == [Thought(5, 2, False)]


def test_budget_wait_never_passes_the_most(words):
    """Two tokens of thought and three words of waiting: one fits into three, and then the thought is ended."""
    texts, thoughts, _ = complete(words, ["hm hm </think>", "8 <eos>"], min_tokens=3, max_tokens=3, wait="Wait so hm")
    assert texts == ["hm hm Wait </think> 8 <eos>"]
    assert thoughts == [Thought(3, 1, True)]


def test_budget_forced_end_writes_what_the_template_wants(words):
    texts, _, _ = complete(words, ["hm hm", "8 <eos>"], max_tokens=2, forced_end="so </think> Final")
    assert texts == ["hm hm so </think> Final 8 <eos>"]


def test_budget_answer_that_fills_the_room_is_cut(words):
    texts, _, model = complete(words, ["hm </think>", "8 8 8 8"], max_new_tokens=4, max_tokens=2)
    assert texts == ["hm </think> 8 8"]
    assert model.asked[1][1] == [2]


def test_budget_end_that_takes_the_last_token_leaves_no_answer(words):
    texts, thoughts, model = complete(words, ["hm hm hm </think>"], max_new_tokens=4, min_tokens=1)
    assert texts == ["hm hm hm </think>"]
    assert (thoughts, len(model.asked)) == ([Thought(3, 0, False)], 1)


def test_budget_rows_go_their_own_ways_and_keep_their_order(words):
    texts, thoughts, model = complete(
        words,
        ["hm </think>", "hm </think>", "8 <eos>"],
        ["hm hm hm </think>", "so 8 <eos>"],
        ["hm hm hm hm hm hm", "Final <eos>"],
        min_tokens=3,
        max_tokens=5,
    )
    assert texts == [
        "hm Wait hm </think> 8 <eos>",
        "hm hm hm </think> so 8 <eos>",
        "hm hm hm hm hm </think> Final <eos>",
    ]
    assert thoughts == [Thought(3, 1, False), Thought(3, 0, False), Thought(5, 0, True)]
    assert [limits for _, limits, _ in model.asked] == [[5, 5, 5], [3], [8, 8, 6]]


def test_budget_what_an_engine_writes_behind_the_end_is_cut(words):
    """A batch goes on until its last row is done: rows that ended are padded."""
    texts, _, _ = complete(words, ["hm </think> <eos> <eos>", "8 <eos> <eos> <eos>"], max_tokens=5)
    assert texts == ["hm </think> 8 <eos>"]


def test_budget_long_thoughts_are_cut_where_short_ones_are(words, bytes_merged):
    """Longer than the tail in which an end is looked for first; the second engine does not stop at the end."""
    long = " ".join(["hm"] * 40)
    texts, thoughts, _ = complete(words, [f"{long} </think>", "so </think>", "8"], min_tokens=42, max_new_tokens=60)
    assert (texts, thoughts) == ([f"{long} Wait so </think> 8"], [Thought(42, 1, False)])
    texts, thoughts, _ = complete(words, [f"so </think> {long}", "8"], max_tokens=50, max_new_tokens=60)
    assert (texts, thoughts) == (["so </think> 8"], [Thought(1, 0, False)])
    texts, thoughts, _ = complete(bytes_merged, ["hm" * 40 + ".</think>", "8"], max_tokens=42, max_new_tokens=60)
    assert (texts, thoughts) == (["hm" * 40 + ".</think>8"], [Thought(41, 0, True)])


def test_budget_token_shared_with_the_end_is_written_anew(bytes_merged):
    """The full stop shares a token with the end: it stays, and the end goes."""
    assert len(bytes_merged.encode("hm.</think>\n\n")) == 4
    texts, thoughts, _ = complete(
        bytes_merged, ["hm.</think>", "hm</think>\n\n", "8<eos>"], min_tokens=4, max_new_tokens=30
    )
    assert texts == ["hm.Waithm</think>\n\n8<eos>"]
    assert thoughts == [Thought(7, 1, False)]  # hm . W a i t hm


def test_budget_end_cut_in_the_middle_is_not_doubled(bytes_merged):
    """Of hm hm .</ think > four tokens fit: two of the end, which is then written whole, behind its full stop."""
    texts, thoughts, _ = complete(bytes_merged, ["hmhm.</think>", "8<eos>"], max_tokens=4, max_new_tokens=30)
    assert texts == ["hmhm.</think>8<eos>"]
    assert thoughts == [Thought(3, 0, True)]


def test_budget_characters_of_several_bytes_are_not_broken(bytes_merged):
    """等 is three tokens here; the thought is cut behind the whole character."""
    texts, thoughts, _ = complete(
        bytes_merged, ["等</think>", "等等</think>", "8<eos>"], min_tokens=5, max_new_tokens=40, wait="再"
    )
    assert texts == ["等再等等</think>8<eos>"]
    assert thoughts == [Thought(12, 1, False)]


def test_budget_text_the_tokenizer_cannot_write_is_refused(words):
    with pytest.raises(UserError, match=r"thinking\.wait"):
        complete(words, [], min_tokens=3, wait="Hold")
    with pytest.raises(UserError, match="'</thought>'"):
        complete(words, [], min_tokens=3, end="</thought>")
    complete(words, ["hm </think>", "8"], max_tokens=3, wait="Hold")  # nothing would be made to wait


def test_budget_forced_end_that_leaves_no_answer_is_refused(words):
    """Nine tokens of thought and three that end it fill the twelve."""
    with pytest.raises(UserError, match=r"3 token\(s\) of the forced end .* max_new_tokens 12: raise"):
        complete(words, [], max_tokens=9, forced_end="so </think> Final")
    complete(words, ["hm </think>", "8"], max_tokens=8, forced_end="so </think> Final")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"min_tokens": None, "max_tokens": None}, "both null"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens is 9, over thinking.max_tokens 8"),
        ({"min_tokens": None, "max_tokens": 8, "max_waits": 2}, "no thought would wait"),
        ({"min_tokens": 0, "max_tokens": None}, "greater than or equal to 1"),
        ({"min_tokens": 1, "max_tokens": None, "wait": ""}, "at least 1 character"),
        ({"min_tokens": 1, "max_tokens": None, "wait": "so </think>"}, "choose words that go on"),
        ({"min_tokens": 1, "max_tokens": None, "end": " "}, "pattern"),
        ({"min_tokens": 1, "max_tokens": None, "forced_end": "done"}, "no thought would end"),
        ({"min_tokens": 1}, "max_tokens"),
    ],
)
def test_thinking_what_cannot_be_forced_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        Thinking(**fields)
