"""Stage evaluate without a run: the statistics by hand, the choice of questions, the refusals."""

import sys
from pathlib import Path

import pytest
from bigram_model import save_bigram_model
from evaluation_inputs import FOLLOWS, WORDS, config, problem, write_inputs, write_problems

from tasks.core.errors import UserError
from tasks.core.verdict import Judgement, Verdict
from tasks.evaluate import evaluate, read_problems, summarise


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def fabricated(verdicts: list[Verdict], num_tokens: list[int]) -> list:
    from tasks.core.harness.records import Completion, Question

    return [
        Completion(
            Question("p", "countdown", "{}", "", ()),
            0,
            "",
            tokens,
            verdict is Verdict.TRUNCATED,
            Judgement(verdict, "countdown", None if verdict is Verdict.NO_ANSWER else "1"),
        )
        for verdict, tokens in zip(verdicts, num_tokens, strict=True)
    ]


def test_summarise_four_questions_of_four_samples_by_hand():
    """Question means 1/2, 1/2, 3/4, 1/4: squared deviations 1/8, SE sqrt(1/8 / 3 / 4) = 0.10206, t(3) 3.182."""
    right, wrong, cut, empty = Verdict.CORRECT, Verdict.WRONG, Verdict.TRUNCATED, Verdict.NO_ANSWER
    verdicts = [right, right, wrong, wrong, right, cut, right, cut]
    verdicts += [right, right, right, empty, empty, empty, empty, right]
    metrics = summarise(fabricated(verdicts, list(range(10, 170, 10))), 4)
    assert metrics["accuracy"] == 0.5
    assert metrics["standard_error"] == pytest.approx(0.1020621)
    assert metrics["accuracy_low"] == pytest.approx(0.5 - 0.3247615)
    assert metrics["accuracy_high"] == pytest.approx(0.5 + 0.3247615)
    assert metrics["pass_at_num_samples"] == 1.0
    assert metrics["truncation_rate"] == 0.125
    assert metrics["no_answer_rate"] == 0.25
    assert metrics["mean_tokens"] == 85
    assert metrics["verdicts"] == {"correct": 8, "wrong": 2, "no_answer": 4, "truncated": 2}


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
