"""Stage evaluate under a forced budget of thought: a bigram model with transformers, and what vLLM is asked."""

import json
import sys
import types
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bigram_model import save_bigram_model
from evaluation_inputs import NUM_QUESTIONS, NUM_SAMPLES, config, problem, write_problems

from tasks.core.thinking import Thinking
from tasks.evaluate import evaluate
from tests.tasks.training_inputs import run_and_ask_to_stop

# The model says "hm" until it ends its thought, after one in half of all cases, and then answers in five words.
WORDS = ["hm", "Wait", "</think>", "<answer>", "</answer>", "3", "5", "+", "-", "make", "of", "8", "15"]
FOLLOWS = {
    "<assistant>": {"hm": 1.0},
    "hm": {"hm": 0.5, "</think>": 0.5},
    "Wait": {"hm": 1.0},
    "</think>": {"<answer>": 1.0},
    "<answer>": {"3": 1.0},
    "3": {"+": 0.5, "-": 0.5},
    "+": {"5": 1.0},
    "-": {"5": 1.0},
    "5": {"</answer>": 1.0},
}
BUDGET = Thinking(min_tokens=3, max_tokens=5)
LONGEST = 5 + 1 + 6  # a thought, its end, an answer of five words with its end of text


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("inputs")
    save_bigram_model(root / "model" / "model", WORDS, FOLLOWS)
    return {
        "model": root / "model",
        "problems": write_problems(root / "problems", [problem(place) for place in range(NUM_QUESTIONS)]),
    }


def run(inputs: dict[str, Path], out: Path, **changes) -> list[dict]:
    """The rows of completions.parquet of an evaluation under the budget."""
    out.mkdir(exist_ok=True)
    evaluate(config(**({"thinking": BUDGET, "max_new_tokens": LONGEST} | changes)), out=out, **inputs)
    return pq.read_table(out / "completions.parquet").to_pylist()


@pytest.fixture(scope="module")
def evaluated(inputs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("evaluated")
    run(inputs, out)
    return out


@pytest.fixture(scope="module")
def rows(evaluated) -> list[dict]:
    return pq.read_table(evaluated / "completions.parquet").to_pylist()


def thought_of(row: dict) -> list[str]:
    words = row["completion"].split()
    return words[: words.index("</think>")]


def test_evaluate_budget_every_thought_lies_within_it_and_is_answered(rows):
    """A word is a token. Left alone, half of the thoughts would be one token long."""
    assert len(rows) == NUM_QUESTIONS * NUM_SAMPLES
    for row in rows:
        thought = thought_of(row)
        assert 3 <= len(thought) <= 5
        assert row["completion"].split()[len(thought) + 1 :][0] == "<answer>"
        assert row["completion"].endswith("</answer>") and not row["truncated"]
        assert row["num_tokens"] == len(thought) + 1 + 6
    assert {row["verdict"] for row in rows} == {"correct", "wrong"}


def test_evaluate_budget_columns_count_what_was_forced(rows):
    """One wait is the most: after hm Wait, or hm hm Wait, comes an hm, and three are enough."""
    for row in rows:
        thought = thought_of(row)
        assert (row["num_thinking_tokens"], row["num_waits"]) == (len(thought), thought.count("Wait"))
        assert not (row["was_forced_to_end"] and len(thought) < 5)
    assert {row["num_waits"] for row in rows} == {0, 1}
    assert {row["was_forced_to_end"] for row in rows} == {True, False}


def test_evaluate_budget_metrics_say_it(evaluated, rows):
    metrics = json.loads((evaluated / "metrics.json").read_text())
    num = len(rows)
    assert metrics["thinking_budget"] == {"min_tokens": 3, "max_tokens": 5}
    assert metrics["mean_thinking_tokens"] == pytest.approx(sum(row["num_thinking_tokens"] for row in rows) / num)
    assert metrics["mean_waits"] == pytest.approx(sum(row["num_waits"] for row in rows) / num)
    assert metrics["forced_to_end_rate"] == pytest.approx(sum(row["was_forced_to_end"] for row in rows) / num)
    assert metrics["reflection_rate"] == 0  # each "Wait" was forced


def test_evaluate_budget_same_seed_same_completions_other_seed_others(inputs, rows, tmp_path):
    assert run(inputs, tmp_path / "same") == rows
    assert run(inputs, tmp_path / "other", seed=4) != rows


def test_evaluate_budget_paused_and_resumed_gives_the_same(inputs, rows, tmp_path):
    """Sixteen completions at a time: asked to stop during the first sixteen, and the thoughts of these are kept."""

    def resume() -> None:
        run(inputs, tmp_path)

    run_and_ask_to_stop(resume, tmp_path, at_step=16)
    assert not (tmp_path / "metrics.json").exists()
    assert run_and_ask_to_stop(resume, tmp_path, at_step=44) == ""
    assert pq.read_table(tmp_path / "completions.parquet").to_pylist() == rows


def test_evaluate_without_budget_has_neither_columns_nor_keys(inputs, tmp_path):
    (row, *_) = run(inputs, tmp_path, thinking=None, max_new_tokens=30, num_questions=2)
    assert "num_waits" not in row
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert not {"thinking_budget", "mean_thinking_tokens", "mean_waits"} & metrics.keys()


def test_evaluate_budget_without_a_most_leaves_long_thoughts_alone(inputs, tmp_path):
    """At least four tokens; the model itself ends the thought, some time."""
    budget = Thinking(min_tokens=4, max_tokens=None)
    rows = run(inputs, tmp_path, thinking=budget, max_new_tokens=50, num_questions=4)
    lengths = [row["num_thinking_tokens"] for row in rows]
    assert min(lengths) >= 4 and max(lengths) > 5
    assert not any(row["was_forced_to_end"] for row in rows)


def test_config_thinking_is_identity_only_where_it_is_set():
    assert "thinking" not in config().identity()
    budget = config(thinking=BUDGET, max_new_tokens=LONGEST).identity()["thinking"]
    words = {"wait": "Wait", "end": "</think>", "forced_end": None}
    assert budget == {"min_tokens": 3, "max_tokens": 5, "max_waits": None} | words


def test_config_budget_without_room_for_an_answer_is_refused():
    with pytest.raises(ValueError, match=r"max_tokens is 9: with 1 token.* max_new_tokens 10: raise max_new_tokens"):
        config(thinking=Thinking(min_tokens=None, max_tokens=9))
    with pytest.raises(ValueError, match="min_tokens is 10, not below max_new_tokens 10"):
        config(thinking=Thinking(min_tokens=10, max_tokens=None))


def test_config_budget_with_a_server_is_refused():
    server = {"base_url": "http://localhost:1/v1", "model": "m"}
    with pytest.raises(ValueError, match="set engine: transformers or vllm"):
        config(thinking=Thinking(min_tokens=3, max_tokens=None), engine="openai", server=server)


class FakeLLM:
    """vllm is the border: one question of two samples. Both end too early; then one thinks on and on."""

    calls: list[tuple[list[str], list[dict]]]
    said = (["hm </think>", "hm </think>"], ["hm hm hm", "hm </think>"], ["<answer> <eos>", "3 <eos>"])

    def __init__(self, model: str, **arguments) -> None:
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(model)
        FakeLLM.calls = []

    def generate(self, prompts, sampling_params, use_tqdm):
        shown = [self.tokenizer.decode(prompt["prompt_token_ids"]).split("<assistant>")[1] for prompt in prompts]
        texts = self.said[len(self.calls)]
        self.calls.append((shown, sampling_params))
        tokens = [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        return [types.SimpleNamespace(outputs=[types.SimpleNamespace(token_ids=tuple(ids))]) for ids in tokens]


def test_vllm_engine_budget_goes_on_in_rounds_each_request_with_a_seed_of_its_own(inputs, tmp_path, monkeypatch):
    vllm = types.ModuleType("vllm")
    vllm.LLM, vllm.SamplingParams = FakeLLM, lambda **arguments: arguments
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    rows = run(inputs, tmp_path, engine="vllm", num_questions=1, num_samples=2)
    assert [row["completion"] for row in rows] == ["hm Wait hm hm hm </think> <answer>", "hm Wait hm </think> 3"]
    assert [(row["num_thinking_tokens"], row["num_waits"], row["was_forced_to_end"]) for row in rows] == [
        (5, 1, True),
        (3, 1, False),
    ]
    asked = [shown for shown, _ in FakeLLM.calls]
    assert asked == [["", ""], [" hm Wait"] * 2, [" hm Wait hm hm hm </think>", " hm Wait hm </think>"]]
    params = [one for _, call in FakeLLM.calls for one in call]
    assert [one["max_tokens"] for one in params] == [5, 5, 3, 3, 6, 8]
    assert [one.get("stop") for one in params] == [["</think>"]] * 4 + [None] * 2
    assert len({one["seed"] for one in params}) == 6
    assert all(one["temperature"] == 1.0 and one["stop_token_ids"] == [1] for one in params)
