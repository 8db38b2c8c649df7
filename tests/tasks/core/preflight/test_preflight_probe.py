"""The probe on models whose completions are known, and its verdicts on numbers written down."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.core.preflight.probe import Probe, Sampled, Scores, sample
from tasks.core.preflight.verdict import judge
from tests.tasks.bigram_model import save_bigram_model
from tests.tasks.training_inputs import make_base

SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}
GOOD = Sampled(
    rendered="user: 1 2 -> 3", messages=[{"role": "user", "content": "1 2 -> 3"}], begins_twice=False, completion="",
    num_prompts=8, num_generations=8, device="CPU", max_new_tokens=64, wanted_tokens=64, mean_tokens=20.0,
    tokens_per_s=100.0, share_truncated=0.1, share_no_answer=0.1, share_equal_groups=0.2, pad_is_end=False,
    end_tokens=["</s>"], rewards={"accuracy": Scores(0.3, 0.0, 1.0, 0, True)}, total=Scores(0.3, 0.0, 1.0, 0, True),
)  # fmt: skip


def problems(path: Path, num: int = 3) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    gold = json.dumps({"numbers": [1, 2], "target": 3})
    row = {"prompt": [{"role": "user", "content": "1 2 -> 3"}], "answer": gold, "task": "countdown", "split": "train"}
    rows = [row | {"problem_id": str(i)} for i in range(num)]
    pq.write_table(pa.Table.from_pylist([*rows, row | {"problem_id": "e", "split": "eval"}]), path)
    return path


def probe(model: Path, tmp_path: Path, rewards, num_tokens: int = 16) -> Probe:
    rows = problems(tmp_path / "problems.parquet")
    return Probe(str(model), str(rows), rewards, 8, 4, SAMPLING | {"max_new_tokens": num_tokens}, 0)


def outlooks(sampled: Sampled, rewards=None, *, is_ppo: bool = False) -> list[tuple[str, str]]:
    return [tuple(line) for line in judge(sampled, rewards or {}, is_ppo=is_ppo)]


@pytest.fixture
def coin(tmp_path: Path) -> Path:
    """Answers <think> no </think> <answer> 1 + 2 </answer> or, as often, the wrong 1 - 2, and ends."""
    chain = ["<assistant>", "<think>", "no", "</think>", "<answer>", "1"]
    follows = {word: {after: 1.0} for word, after in itertools.pairwise(chain)}
    follows |= {"1": {"+": 0.5, "-": 0.5}, "+": {"2": 1.0}, "-": {"2": 1.0}, "2": {"</answer>": 1.0}}
    save_bigram_model(tmp_path / "model", ["<think>", "</think>", "<answer>", "</answer>", *"12+->", "no"], follows)
    return tmp_path / "model"


def test_probe_of_a_model_that_is_right_by_half(coin, tmp_path):
    found = sample(probe(coin, tmp_path, {"countdown": 1.0}))
    assert found.num_prompts == 3 and found.num_generations == 4  # fewer problems than asked for
    assert found.mean_tokens == 9.0 and found.share_truncated == 0.0  # eight words and the end
    assert found.completion.endswith("</answer> <eos>")
    assert found.rewards["format"] == Scores(1.0, 1.0, 1.0, 0, False)
    assert found.rewards["countdown"].mean == found.rewards["accuracy"].mean
    assert 0.0 < found.total.mean < 1.0 and found.share_no_answer == 0.0
    assert outlooks(found, {"countdown": 1.0})[0][0] == "fine"


def test_probe_of_equal_rewards_will_not_learn(coin, tmp_path):
    found = sample(probe(coin, tmp_path, {"format": 1.0}))
    assert found.share_equal_groups == 1.0
    outlook, text = outlooks(found, {"format": 1.0})[0]
    assert outlook == "will not learn" and "every reward is 1" in text


def test_probe_of_random_weights_will_not_learn(tmp_path):
    model = make_base(tmp_path / "base") / "model"
    found = sample(probe(model, tmp_path, {"countdown": 1.0, "format": 0.1}, num_tokens=8))
    assert found.total.most == 0.0 and found.share_no_answer > 0.9
    outlook, text = outlooks(found)[0]
    assert outlook == "will not learn" and "every reward is 0" in text and "cold start" in text


def test_verdict_of_all_zero_but_cut_short_is_watch():
    cut = replace(
        GOOD, total=Scores(0.0, 0.0, 0.0, 0, True), share_truncated=1.0, share_equal_groups=1.0, wanted_tokens=4096
    )
    assert [outlook for outlook, _ in outlooks(cut)] == ["watch", "watch"]
    assert "only 64 of 4096 tokens were sampled" in outlooks(cut)[0][1]


def test_verdict_of_equal_groups_is_watch_for_grpo_only():
    equal = replace(GOOD, share_equal_groups=0.95)
    assert "95% of the groups" in outlooks(equal)[0][1]
    assert outlooks(equal, is_ppo=True) == outlooks(GOOD)


def test_verdict_of_a_model_that_never_ends_names_the_end_token():
    endless = replace(GOOD, share_truncated=1.0, pad_is_end=True)
    (line,) = outlooks(endless)
    assert line[0] == "watch" and "what ends one is </s>" in line[1] and "pad token" in line[1]
    assert "cut at 64 tokens" in outlooks(replace(GOOD, share_truncated=0.6))[0][1]


def test_verdict_tells_template_begin_and_missing_answers():
    assert outlooks(replace(GOOD, rendered="nothing"))[0][0] == "will not learn"
    assert "twice" in outlooks(replace(GOOD, begins_twice=True))[0][1]
    assert "hold no answer" in outlooks(replace(GOOD, share_no_answer=0.95))[0][1]
