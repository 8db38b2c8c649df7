"""lighteval's own benchmarks: their questions from a hub on this machine, our verdicts beside lighteval's metric."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark_repositories import GPQA, MATH, gpqa_rows, lcb_row, write_repositories
from bigram_model import save_bigram_model
from hub_server import COMMIT, HubServer

from flows.recipe import load_recipe
from tasks.core.errors import UserError
from tasks.core.rewards.sandbox import has_namespaces
from tasks.core.verdict import Verdict
from tasks.evaluate import BUILT_IN, Evaluate, evaluate

ROOT = Path(__file__).parents[2]
GONE = "f" * 40
NUM_SAMPLES = 4
FOLLOWS = {"<assistant>": {"\\boxed{7}": 0.5, "\\boxed{8}": 0.5}}
NAMES = tuple(BUILT_IN)


def config(**changes: Any) -> dict[str, Any]:
    fields = {"benchmark": "math_500", "data_revision": COMMIT, "num_questions": None, "num_samples": NUM_SAMPLES}
    fields |= {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 4, "seed": 1, "engine": "transformers"}
    return fields | changes


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What every case gives, all in one fresh process, whose hub is this machine's."""
    root, server = tmp_path_factory.mktemp("benchmarks"), HubServer()
    for name, directory in write_repositories(root / "hub").items():
        server.serve(name, directory)
    save_bigram_model(root / "model" / "model", ["\\boxed{7}", "\\boxed{8}"], FOLLOWS)
    cases: dict[str, dict[str, Any]] = {name: {"name": name, "revision": COMMIT} for name in NAMES}
    cases["gone"] = {"name": "aime24", "revision": GONE}
    whole = {"evaluate": config(), "model": str(root / "model"), "out": str(root / "out")}
    cases["whole"] = whole
    cases["many"] = whole | {"evaluate": config(num_questions=4), "out": str(root / "many")}
    found = run(cases, root, root / "cache", server.url)
    again = {"gated": "gpqa_diamond", "busy": "gsm8k", "cached": "aime24", "other columns": "math_500"}
    refused = {"Idavidrein/gpqa": (403, "GatedRepo"), "openai/gsm8k": (408, ""), "HuggingFaceH4/aime_2024": (503, "")}
    for name, answer in refused.items():
        del server.repositories[f"datasets/{name}"]
        server.refused[f"datasets/{name}"] = answer
    server.serve("datasets/HuggingFaceH4/MATH-500", root / "hub" / "gsm8k" / "main")
    kept = Path("hub", "datasets--HuggingFaceH4--aime_2024")
    shutil.copytree(root / "cache" / kept, root / "later" / kept, symlinks=True)
    later = {case: {"name": name, "revision": COMMIT} for case, name in again.items()}
    found |= run(later, root, root / "later", server.url)
    server.shutdown()
    return found | {"out": {"path": str(root / "out")}}


def run(cases: dict[str, dict[str, Any]], root: Path, cache: Path, endpoint: str) -> dict[str, dict[str, Any]]:
    (root / "cases.json").write_text(json.dumps(list(cases.values())))
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
    environment |= {"HF_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.tasks.loaded_benchmarks", str(root / "cases.json"), str(root / "out.json")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip(cases, json.loads((root / "out.json").read_text()), strict=True))


def built_in(name: str, rows: list[dict[str, Any]]) -> Any:
    """The benchmark over these rows, without a hub."""
    import importlib

    from tasks.core.harness.benchmarks import _ENTRIES, Benchmark

    entry = _ENTRIES[name]
    module = importlib.import_module(f"lighteval.tasks.tasks.{entry.module}")
    return Benchmark(name, entry, module, next(one for one in module.TASKS_TABLE if one.name == entry.task), rows, 1)


def questions_of(benchmark: Any) -> list[Any]:
    from tasks.core.harness.records import Question

    keys = ("problem_id", "task", "answer", "prompt")
    return [Question.of_chat(*(row[key] for key in keys)) for row in benchmark.problems()]


def verdicts(benchmark: Any, texts: list[str], truncated: bool = False) -> list[str]:
    """Of answers to the benchmark's first question."""
    questions = questions_of(benchmark)[:1] * len(texts)
    return [one.verdict.value for one in benchmark.judge(questions, texts, [truncated] * len(texts))]


def math_rows() -> list[dict[str, str]]:
    return [{"problem": problem, "solution": f"So $\\boxed{{{gold}}}$.", "answer": gold} for problem, gold in MATH]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("gpqa_diamond", "lcb")])
def test_benchmark_of_mathematics_has_the_golds_and_asks_the_question(outcomes, name):
    problems = outcomes[name]["problems"]
    assert [row["answer"] for row in problems] == [gold for _, gold in MATH]
    assert {row["task"] for row in problems} == {"math"}
    for row, (question, _) in zip(problems, MATH, strict=True):
        (message,) = row["prompt"]
        assert message["role"] == "user" and question in message["content"]
        assert row["problem_id"].startswith(f"{name}-")


def test_benchmark_prompt_says_where_the_answer_goes(outcomes):
    """So the verifier, which reads boxes, tags and that line, finds what the model was told to write."""
    asked = {name: outcomes[name]["problems"][0]["prompt"][0]["content"] for name in NAMES}
    assert all("ANSWER: $ANSWER" in asked[name] for name in ("math_500", "gsm8k"))
    assert all("\\boxed{ANSWER}" in asked[name] for name in ("aime24", "aime25"))
    assert "Answer: $LETTER" in asked["gpqa_diamond"]
    assert "```python" in asked["lcb"]


def test_benchmark_gpqa_right_choice_stands_at_its_gold(outcomes):
    golds = set()
    for row, (question, right) in zip(outcomes["gpqa_diamond"]["problems"], GPQA, strict=True):
        content = row["prompt"][0]["content"]
        assert f"{row['answer']}) {right}\n" in f"{content}\n" and question in content
        golds.add(row["answer"])
    assert len(golds) > 1


def test_benchmark_gpqa_choices_do_not_move_with_what_was_drawn_before():
    random.seed(1)
    first = built_in("gpqa_diamond", gpqa_rows()).problems()
    random.seed(2)
    drawn = random.random()
    backwards = built_in("gpqa_diamond", gpqa_rows()[::-1]).problems()[::-1]
    assert backwards == first
    random.seed(2)
    random.random()
    after = random.random()
    random.seed(2)
    assert (random.random(), random.random()) == (drawn, after)


def test_benchmark_missing_commit_is_refused_with_the_data_set(outcomes):
    assert outcomes["gone"]["error"] == "UserError"
    assert "HuggingFaceH4/aime_2024" in outcomes["gone"]["message"] and GONE in outcomes["gone"]["message"]


def test_benchmark_gated_data_set_says_what_to_do(outcomes):
    assert outcomes["gated"]["error"] == "UserError" and "HF_TOKEN" in outcomes["gated"]["message"]


def test_benchmark_hub_that_does_not_answer_is_transient(outcomes):
    assert outcomes["busy"]["error"] == "TransientError"


def test_benchmark_that_was_fetched_before_needs_no_hub(outcomes):
    assert outcomes["cached"] == outcomes["aime24"]


def test_benchmark_data_set_with_other_columns_is_refused(outcomes):
    assert outcomes["other columns"]["error"] == "UserError" and "'problem'" in outcomes["other columns"]["message"]


def test_benchmark_more_questions_than_there_are_says_how_many(outcomes):
    assert "num_questions is 4" in outcomes["many"]["message"] and "has 3 problems" in outcomes["many"]["message"]


def test_evaluate_built_in_scores_by_the_answers_and_lighteval_agrees(outcomes):
    """The model writes 7 or 8, in a box; the golds are 7, 8 and 9."""
    import pyarrow.parquet as pq

    metrics = outcomes["whole"]["metrics"]
    rows = pq.read_table(Path(outcomes["out"]["path"]) / "completions.parquet").to_pylist()
    right = [row["completion"] == f"\\boxed{{{row['answer']}}}" for row in rows]
    assert len(rows) == len(MATH) * NUM_SAMPLES and 0 < sum(right) < len(rows)
    assert metrics["accuracy"] == pytest.approx(sum(right) / len(rows))
    same = pytest.approx(metrics["accuracy"])
    assert metrics["lighteval_metric"] == {"name": "pass@k", "value": same, "num_failed": 0}


def test_benchmark_math_500_answer_on_the_asked_line_is_read():
    rows = [{"problem": "p", "solution": "So $\\boxed{\\frac{14}{3}}$.", "answer": "\\frac{14}{3}"}]
    answers = ["x\nANSWER: \\frac{14}{3}", "x\nANSWER: $14/3$", "\\boxed{14/3}", "ANSWER: 14", "I do not know."]
    assert verdicts(built_in("math_500", rows), answers) == ["correct"] * 3 + ["wrong", "no_answer"]
    assert verdicts(built_in("math_500", rows), ["ANSWER: \\frac{14}{3}"], truncated=True) == ["truncated"]


def test_benchmark_gpqa_letter_is_read_however_it_is_written():
    benchmark = built_in("gpqa_diamond", gpqa_rows())
    gold = benchmark.problems()[0]["answer"]
    other = "B" if gold == "A" else "A"
    answers = [f"Answer: {gold}", f"**Answer: ({gold}) right 0**", f"\\boxed{{{gold}) right 0}}", f"Answer: {other}"]
    assert verdicts(benchmark, answers) == ["correct"] * 3 + ["wrong"]


def test_benchmark_gold_that_does_not_parse_is_its_own_verdict():
    rows = [{"problem": "p", "solution": "none", "answer": ""}]
    assert verdicts(built_in("math_500", rows), ["ANSWER: 3"]) == ["unparsable_gold"]


def test_benchmark_question_that_stands_twice_has_two_ids():
    ids = [row["problem_id"] for row in built_in("math_500", math_rows()[:1] * 2).problems()]
    assert ids[1] == f"{ids[0]}-2"


def completions_of(benchmark: Any, texts: list[list[str]]) -> list[Any]:
    """`texts` of each question, unjudged."""
    from tasks.core.harness.records import Completion
    from tasks.core.verdict import Judgement

    none = Judgement(Verdict.NO_ANSWER, "none")
    return [
        Completion(question, sample, text, 1, False, none)
        for question, group in zip(questions_of(benchmark), texts, strict=True)
        for sample, text in enumerate(group)
    ]


def test_lighteval_metric_is_the_mean_over_all_samples():
    """Right are 1 of 2, 2 of 2, 0 of 2: 3 of 6."""
    benchmark = built_in("aime24", math_rows())
    boxed = [["\\boxed{7}", "\\boxed{1}"], ["\\boxed{8}", "so \\boxed{8}"], ["\\boxed{1}", "none"]]
    measured = benchmark.measure(completions_of(benchmark, boxed))["lighteval_metric"]
    assert measured == {"name": "pass@k", "value": pytest.approx(0.5), "num_failed": 0}


def test_lighteval_metric_that_fails_on_a_text_leaves_it_out_and_says_so(monkeypatch, capsys):
    from tasks.core.harness import benchmarks

    original = benchmarks._score

    def score(metric: Any, doc: Any, text: str) -> float:
        return original(metric, doc, text) if text != "odd" else 1 / 0

    monkeypatch.setattr(benchmarks, "_score", score)
    benchmark = built_in("aime24", math_rows()[:1])
    measured = benchmark.measure(completions_of(benchmark, [["\\boxed{7}", "odd"]]))["lighteval_metric"]
    assert measured == {"name": "pass@k", "value": 1.0, "num_failed": 1}
    assert "sample 1: ZeroDivisionError" in capsys.readouterr().out
    assert benchmark.measure(completions_of(benchmark, [["odd", "odd"]]))["lighteval_metric"]["value"] is None


def fenced(program: str) -> str:
    return f"Like this:\n```python\n{program}\n```\n"


def test_benchmark_lcb_programs_are_run_on_all_tests_without_our_environment(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    added = "print(int(input()) + int(input()))"
    programs = [
        fenced(added),
        fenced(f"import os\nprint('leak') if 'HF_TOKEN' in os.environ else {added}"),
        fenced(f"import os\nos.write(1, b'noise')\n{added}"),
        fenced("print(int(input()) * int(input()))"),  # 1 * 2 is not 3
        fenced("a, b = int(input()), int(input())\nprint(3 if a < 5 else 11)"),  # fails the third test alone
        fenced("this is no program"),
        "No program.",
    ]
    assert verdicts(built_in("lcb", [lcb_row()]), programs) == ["correct"] * 3 + ["wrong"] * 3 + ["no_answer"]
    assert verdicts(built_in("lcb", [lcb_row()]), ["cut"], truncated=True) == ["truncated"]


@pytest.mark.skipif(not has_namespaces(), reason="the kernel lets this user have no namespaces: no fence to test")
def test_benchmark_lcb_programs_reach_neither_the_network_nor_the_users_files(tmp_path):
    """Each prints what the tests want, and then does what it may not: only without the fence would it be right."""
    added = "print(int(input()) + int(input()))"
    kept = tmp_path / "kept"
    kept.write_text("mine")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        programs = [
            fenced(added),
            fenced(f"{added}\nimport socket\nsocket.create_connection(('127.0.0.1', {port}))"),
            fenced(f"{added}\nopen({str(kept)!r}, 'w')"),
            fenced(f"{added}\nopen('own', 'w').write('x')"),
        ]
        assert verdicts(built_in("lcb", [lcb_row()]), programs) == ["correct", "wrong", "wrong", "correct"]
    assert kept.read_text() == "mine"


@pytest.mark.skipif(not has_namespaces(), reason="the kernel lets this user have no namespaces to forbid them in")
def test_benchmark_lcb_is_judged_without_a_fence_where_there_are_no_namespaces_and_says_so(
    tmp_path, monkeypatch, capsys
):
    forbidding = tmp_path / "python"
    forbid = "echo 0 >/proc/sys/user/max_user_namespaces"
    forbidding.write_text(f"""#!/bin/sh\nexec unshare -Ur sh -c '{forbid}; exec {sys.executable} "$@"' sh "$@"\n""")
    forbidding.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(forbidding))
    has_namespaces.cache_clear()
    try:
        programs = [fenced("print(int(input()) + int(input()))"), fenced("print(0)")]
        assert verdicts(built_in("lcb", [lcb_row()]), programs) == ["correct", "wrong"]
    finally:
        has_namespaces.cache_clear()
    assert "warning: no namespaces here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("result", "verdict"),
    [([True, True], "correct"), ([True, -3], "timeout"), ([-1, -1], "timeout"), ([True, -2], "wrong"), ([-4], "wrong")],
)
def test_benchmark_lcb_results_of_lighteval_are_told_apart(result, verdict):
    """lighteval's codes: -1 killed, -2 another output, -3 out of time, -4 an exception. It stops at the first."""
    from tasks.core.harness.code_judge import _judgement

    judged = _judgement("print()", False, result)
    assert judged.verdict == verdict
    assert judged.reason == ("" if verdict == "correct" else f"test {len(result)} fails")


def test_config_data_revision_is_identity_and_absent_where_it_is_not_used():
    plain = Evaluate(**config(benchmark="countdown", data_revision=None))
    assert not {"data_revision", "server", "dtype"} & plain.identity().keys()
    assert Evaluate(**config()).identity()["data_revision"] == COMMIT
    assert Evaluate(**config(data_revision=GONE)).identity() != Evaluate(**config()).identity()


def test_config_unknown_built_in_benchmark_names_the_nearest():
    with pytest.raises(ValueError, match="nearest: math_500"):
        Evaluate(**config(benchmark="math500"))
    with pytest.raises(ValueError, match="data_revision"):
        Evaluate(**config(data_revision="main"))


def test_evaluate_neither_problems_nor_data_revision_names_the_fix(tmp_path):
    with pytest.raises(UserError, match=f"data_revision: {BUILT_IN['aime24']}"):
        evaluate(Evaluate(**config(benchmark="aime24", data_revision=None)), out=tmp_path, model=tmp_path)


RECIPE = """name: asked
description: one line
seed: 0
stages:
  base: {{stage: fetch_model, source: local, path: {path}}}
  problems:
    stage: prepare_data
    source: {{kind: countdown, num_numbers: [3], max_number: 9, max_target: 9, operators: "+-", prompt: tokens}}
    num_train: 1
    num_eval: 1
  asked: {{stage: evaluate, {inputs}benchmark: aime24, num_questions: null, num_samples: 1, temperature: 0.0,
          top_p: 1.0, max_new_tokens: 8, engine: transformers}}
"""


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [
        ("problems: problems, ", "asked.model is missing"),
        ("model: base, ", "asked.problems is missing"),
        (f"model: base, problems: problems, data_revision: {GONE}, ", "asked.problems is given, and so is"),
    ],
)
def test_recipe_evaluate_with_the_wrong_inputs_is_refused_before_anything_runs(tmp_path, inputs, wanted):
    path = tmp_path / "asked.yaml"
    path.write_text(RECIPE.format(path=tmp_path, inputs=inputs))
    with pytest.raises(UserError, match=wanted):
        load_recipe(path)
