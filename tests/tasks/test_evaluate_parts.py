"""Stage evaluate without a run: the choice of questions, the refusals."""

import sys
from pathlib import Path

import pytest
from bigram_model import save_bigram_model
from evaluation_inputs import FOLLOWS, WORDS, config, problem, write_inputs, write_problems

from tasks.core.errors import UserError
from tasks.evaluate import evaluate, read_problems


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def test_read_problems_part_does_not_depend_on_order_and_lies_within_a_larger_part(tmp_path):
    rows = [problem(place) for place in range(20)]
    forwards = write_problems(tmp_path / "a", rows) / "problems.parquet"
    backwards = write_problems(tmp_path / "b", rows[::-1]) / "problems.parquet"
    five, nine = ([row["problem_id"] for row in read_problems(forwards, num)] for num in (5, 9))
    assert [row["problem_id"] for row in read_problems(backwards, 5)] == five
    assert nine[:5] == five


def test_config_greedy_with_several_samples_is_refused():
    with pytest.raises(ValueError, match="num_samples is 4 at temperature 0"):
        config(temperature=0.0)


def test_config_batch_size_and_workers_are_not_identity():
    assert config(batch_size=8, num_workers=2).identity() == config().identity()
    assert config(seed=4).identity() != config().identity()


def refusal(inputs: dict[str, Path], out: Path, **changes) -> str:
    with pytest.raises(UserError) as refused:
        evaluate(config(**changes), out=out, **inputs)
    return str(refused.value)


def test_evaluate_empty_eval_split_names_file_and_fix(inputs, tmp_path):
    problems = write_problems(tmp_path / "p", [problem(1, split="train")])
    message = refusal(inputs | {"problems": problems}, tmp_path)
    assert str(problems / "problems.parquet") in message
    assert "num_eval" in message


def test_evaluate_missing_checkpoint_names_directory_and_fix(inputs, tmp_path):
    message = refusal(inputs | {"model": tmp_path}, tmp_path)
    assert str(tmp_path / "model") in message
    assert "fetch_model" in message


def test_evaluate_tokenizer_without_chat_template_names_the_stage_to_mend(inputs, tmp_path):
    save_bigram_model(tmp_path / "model", WORDS, FOLLOWS, chat_template=None)
    assert "set `chat_template` in the fetch_model stage" in refusal(inputs | {"model": tmp_path}, tmp_path)


@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_evaluate_checkpoint_without_a_tokenizer_says_what_is_missing(inputs, tmp_path, damage):
    save_bigram_model(tmp_path / "model", WORDS, FOLLOWS)
    for path in (tmp_path / "model").glob("*token*"):
        path.unlink() if damage == "missing" else path.write_text("{")
    message = refusal(inputs | {"model": tmp_path}, tmp_path)
    assert f"{tmp_path / 'model'} holds no tokenizer that can be loaded" in message and "tokenizer.json" in message


@pytest.mark.parametrize("tasks", [("countdown", "math"), ("chess",)])
def test_evaluate_mixed_or_unknown_task_is_refused(inputs, tmp_path, tasks):
    problems = write_problems(tmp_path / "p", [problem(place, task=task) for place, task in enumerate(tasks)])
    message = refusal(inputs | {"problems": problems}, tmp_path)
    assert all(repr(task) in message for task in tasks)


def test_evaluate_more_questions_than_there_are_says_how_many(inputs, tmp_path):
    assert "num_questions is 12" in refusal(inputs, tmp_path, num_questions=12)


def test_evaluate_prompt_and_completion_over_the_context_says_what_fits(inputs, tmp_path):
    """The context is 64 tokens and the prompts have seven."""
    assert "set max_new_tokens to at most 57" in refusal(inputs, tmp_path, max_new_tokens=58)


def test_evaluate_vllm_not_installed_says_how_to_get_it(inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)  # importing it raises ModuleNotFoundError, installed or not
    assert "`gpu` extra" in refusal(inputs, tmp_path, engine="vllm")
