"""Stage evaluate on a bigram model: the prompts, the answers, the numbers, the seeds."""

import json
import socket
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from evaluation_inputs import MAX_NEW_TOKENS, NUM_QUESTIONS, NUM_SAMPLES, config, problem, write_inputs, write_problems

from tasks.evaluate import evaluate, read_problems
from tests.tasks.training_inputs import run_and_ask_to_stop

RIGHT, WRONG = "<answer> 3 + 5 </answer>", "<answer> 3 - 5 </answer>"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def evaluated(inputs, tmp_path_factory) -> Path:
    """One evaluation that must not open a connection; every test of the numbers reads it."""
    out = tmp_path_factory.mktemp("evaluated")
    before = sorted(path for path in inputs["model"].rglob("*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", lambda *args: pytest.fail(f"opened a connection: {args}"))
        patch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: pytest.fail(f"looked up a host: {args}"))
        evaluate(config(), out=out, **inputs)
    assert sorted(path for path in inputs["model"].rglob("*")) == before, "the model's artifact was written to"
    return out


@pytest.fixture(scope="module")
def completions(evaluated) -> list[dict]:
    return pq.read_table(evaluated / "completions.parquet").to_pylist()


@pytest.fixture(scope="module")
def metrics(evaluated) -> dict:
    return json.loads((evaluated / "metrics.json").read_text())


def test_completions_all_questions_of_eval_split_in_order(completions):
    asked = [(row["problem_id"], row["sample"]) for row in completions]
    assert asked == [(f"p{place}", sample) for place in range(NUM_QUESTIONS) for sample in range(NUM_SAMPLES)]


def test_completions_verdict_known_answers_judged_by_hand(completions):
    for row in completions:
        solvable = row["problem_id"] != "p4"
        assert (row["verdict"] == "correct") == (row["completion"] == RIGHT and solvable)
    assert {row["completion"] for row in completions} == {RIGHT, WRONG, " ".join(["no"] * MAX_NEW_TOKENS)}


def test_completions_truncated_and_num_tokens_counted_without_padding(completions):
    """An answer is five words and <eos>, whatever the other rows of its batch do; "no" is cut at the limit."""
    for row in completions:
        cut = row["completion"].startswith("no")
        assert (row["truncated"], row["num_tokens"]) == ((True, MAX_NEW_TOKENS) if cut else (False, 6))


def test_metrics_accuracy_is_mean_of_verdicts_and_lightevals_number(evaluated, completions, metrics):
    right = sum(row["verdict"] == "correct" for row in completions) / len(completions)
    results = json.loads((evaluated / "results_lighteval.json").read_text())
    assert 0 < right < 1
    assert metrics["accuracy"] == pytest.approx(right)
    assert results["results"]["countdown|0"]["accuracy"] == pytest.approx(right)


def test_metrics_rates_match_completions(completions, metrics):
    cut = sum(row["truncated"] for row in completions)
    assert metrics["truncation_rate"] == pytest.approx(cut / 44)
    assert metrics["no_answer_rate"] == pytest.approx(cut / 44)
    assert metrics["mean_tokens"] == pytest.approx((cut * 10 + (44 - cut) * 6) / 44)
    assert (metrics["num_questions"], metrics["num_samples"]) == (11, 4)
    assert sum(metrics["verdicts"].values()) == 44


def test_progress_counts_completions(evaluated):
    progress = json.loads((evaluated / "progress.json").read_text())
    assert (progress["done"], progress["total"], progress["unit"]) == (44, 44, "completions")


def test_prompt_is_the_one_grpo_shows(inputs, completions):
    """TRL's own GRPOTrainer tokenizes the same messages to the tokens that the harness gave the model."""
    from types import SimpleNamespace

    from transformers import AutoTokenizer
    from trl import GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(inputs["model"] / "model")
    trainer = SimpleNamespace(processing_class=tokenizer, _is_vlm=False, environment_factories=None)
    trainer.tools, trainer.chat_template, trainer.chat_template_kwargs = None, None, {}
    rows = read_problems(inputs["problems"] / "problems.parquet", None)
    grpo_ids = GRPOTrainer._tokenize_prompts(trainer, [row["prompt"] for row in rows])[0]
    shown = [row["prompt"] for row in completions if row["sample"] == 0]
    assert tokenizer(shown, add_special_tokens=False)["input_ids"] == grpo_ids
    assert shown[1] == "<user> make 8 of 3 5 <assistant> "


def test_evaluate_same_config_same_completions_other_seed_others(inputs, completions, tmp_path):
    drawn = []
    for seed in (3, 4):
        out = tmp_path / str(seed)
        out.mkdir()
        evaluate(config(seed=seed), out=out, **inputs)
        drawn.append([row["completion"] for row in pq.read_table(out / "completions.parquet").to_pylist()])
    assert drawn[0] == [row["completion"] for row in completions]
    assert drawn[1] != drawn[0]


def test_evaluate_paused_and_resumed_gives_the_same_completions(inputs, completions, tmp_path):
    """Sixteen completions at a time: asked during the first batch, it stops before the second; too late, it ends."""

    def resume() -> None:
        evaluate(config(), out=tmp_path, **inputs)

    said = run_and_ask_to_stop(resume, tmp_path, at_step=16)
    assert said == "sampled 16 of 44 completions when asked to stop; the next start goes on from there"
    assert not (tmp_path / "metrics.json").exists()
    assert run_and_ask_to_stop(resume, tmp_path, at_step=44) == ""
    assert pq.read_table(tmp_path / "completions.parquet").to_pylist() == completions


def test_evaluate_greedy_takes_the_likeliest_word(inputs, tmp_path):
    """After <assistant> that is <answer>, 0.75 against 0.25."""
    out = tmp_path / "greedy"
    out.mkdir()
    evaluate(config(temperature=0.0, num_samples=1), out=out, **inputs)
    rows = pq.read_table(out / "completions.parquet").to_pylist()
    assert len(rows) == NUM_QUESTIONS
    assert all(row["completion"].startswith("<answer>") for row in rows)


def test_evaluate_nucleus_leaves_out_the_unlikely_word(inputs, tmp_path):
    """<answer> alone reaches 0.7, so "no" is never drawn; + and - have 0.5 each and both stay."""
    out = tmp_path / "nucleus"
    out.mkdir()
    evaluate(config(top_p=0.7), out=out, **inputs)
    completions = {row["completion"] for row in pq.read_table(out / "completions.parquet").to_pylist()}
    assert completions == {RIGHT, WRONG}


def test_evaluate_math_task_is_judged_by_the_math_verifier(inputs, tmp_path):
    """The model answers 3 + 5 or 3 - 5; the gold is 8."""
    rows = [problem(place, task="math") | {"answer": "8"} for place in range(4)]
    out = tmp_path / "out"
    out.mkdir()
    evaluate(
        config(benchmark="math-small"), out=out, model=inputs["model"], problems=write_problems(tmp_path / "p", rows)
    )
    completions = pq.read_table(out / "completions.parquet").to_pylist()
    assert {row["completion"] for row in completions} >= {RIGHT, WRONG}
    for row in completions:
        assert (row["verdict"] == "correct") == (row["completion"] == RIGHT)


def test_evaluate_reference_answer_that_nobody_can_read_is_told(inputs, tmp_path, capsys):
    rows = [problem(place, task="math") | {"answer": r"\sqrt{" if place == 2 else "8"} for place in range(4)]
    (tmp_path / "out").mkdir()
    problems = write_problems(tmp_path / "p", rows)
    evaluate(config(benchmark="math-small"), out=tmp_path / "out", model=inputs["model"], problems=problems)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["num_unparsable_golds"] == 1 and metrics["num_questions"] == 4
    table = pq.read_table(tmp_path / "out" / "completions.parquet").to_pylist()
    verdicts = {row["verdict"] for row in table if row["answer"] != "8"}
    assert verdicts == {"unparsable_gold", "truncated"}  # the model ends some of its samples never
    assert "warning: 1 of 4 reference answers cannot be read" in capsys.readouterr().out


def test_evaluate_directory_named_like_the_benchmark_is_not_taken_for_a_list_of_tasks(inputs, tmp_path, monkeypatch):
    (tmp_path / "countdown").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    evaluate(config(num_questions=2), out=tmp_path / "out", **inputs)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["num_questions"] == 2
