"""Evaluation of a served model: a real HTTP server that echoes the question as its answer, the real client, no network.

The server's answer to "7" is "7", so a question is right when its text is its gold. It cuts completions of odd seeds
and counts the seed modulo 100 as tokens.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from r1_process import wait_until

from tasks.core.errors import TransientError, UserError
from tasks.core.evaluated_server import EvaluatedServer
from tasks.evaluate import Evaluate, evaluate
from tests.tasks.chat_server import ChatServer, shorten_pauses
from tests.tasks.training_inputs import run_and_ask_to_stop

ROOT = Path(__file__).parents[2]
SECRET = "sk-never-to-be-written-down"
ROWS = [("p0", "7", "7"), ("p1", "8", "9"), ("p2", "5", "5"), ("p3", "6", "6")]
"""(problem, question, gold): p1 is wrong."""
NUM_SAMPLES = 2


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_pauses(monkeypatch)
    monkeypatch.setenv("MY_KEY", SECRET)


def block(base_url: str, **changes: Any) -> dict[str, Any]:
    fields = {"base_url": base_url, "model": "m", "api_key_env": "MY_KEY", "max_concurrent": 2, "timeout_s": 20}
    return fields | {"max_retries": 0, "patience_s": 0.3} | changes


def config(server: dict[str, Any] | None, **changes: Any) -> Evaluate:
    fields = {"benchmark": "echo", "num_questions": None, "num_samples": NUM_SAMPLES, "temperature": 0.6, "top_p": 0.95}
    fields |= {"max_new_tokens": 64, "seed": 3, "engine": "openai"}
    return Evaluate(**(fields | {"server": server} | changes))


def write_problems(directory: Path) -> Path:
    directory.mkdir()
    asked = {"split": "eval", "task": "math"}
    rows = [
        asked | {"problem_id": one, "prompt": [{"role": "user", "content": text}], "answer": gold}
        for one, text, gold in ROWS
    ]
    pq.write_table(pa.Table.from_pylist(rows), directory / "problems.parquet")
    return directory


def ask(server: ChatServer | str, out: Path, **changes: Any) -> list[Any]:
    """The responses to all questions, by the engine alone; `changes` are to the block `server`."""
    from tasks.core.harness.records import Question, Sampling
    from tasks.core.harness.server_engine import ServerEngine
    from tasks.core.harness.task import _as_doc, question_rows
    from tasks.core.progress import Progress

    questions = [Question.of_chat(one, "math", gold, [{"role": "user", "content": text}]) for one, text, gold in ROWS]
    docs = [_as_doc(row, "echo") for row in question_rows(questions)]
    out.mkdir(exist_ok=True)
    url = server if isinstance(server, str) else server.base_url
    with Progress(out, len(ROWS) * NUM_SAMPLES, "completions") as progress:
        engine = ServerEngine(
            EvaluatedServer(**block(url, **changes)), questions, Sampling(NUM_SAMPLES, 0.6, 0.95, 64, 3), out, progress
        )
        return engine.greedy_until(docs)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def texts(responses: list[Any]) -> list[list[str]]:
    return [response.text for response in responses]


def num_asked(server: ChatServer) -> int:
    return len(server.requests)


def test_evaluate_server_scores_lengths_and_cuts_as_the_server_says(server, tmp_path):
    """Three of four questions echo their gold, in both samples: accuracy 3/4, and the errors agree within questions."""
    problems, out = write_problems(tmp_path / "problems"), tmp_path / "out"
    out.mkdir()
    evaluate(config(block(server.base_url)), out=out, problems=problems)
    metrics = json.loads((out / "metrics.json").read_text())
    rows = pq.read_table(out / "completions.parquet").to_pylist()
    assert (metrics["accuracy"], metrics["num_questions"], metrics["num_samples"]) == (0.75, 4, 2)
    assert [row["verdict"] for row in rows] == ["correct"] * 2 + ["wrong"] * 2 + ["correct"] * 4
    seeds = {request["messages"][0]["content"]: [] for request in server.requests}
    for request in server.requests:
        seeds[request["messages"][0]["content"]].append(request["seed"])
    for problem, text, _ in ROWS:
        own = [row for row in rows if row["problem_id"] == problem]
        assert sorted(row["num_tokens"] for row in own) == sorted(seed % 100 for seed in seeds[text])
        assert sum(row["truncated"] for row in own) == sum(seed % 2 for seed in seeds[text])
    assert rows[0]["prompt"] == "user: 7"
    assert rows[0]["completion"].endswith("<answer> 7 </answer>")
    sent = server.requests[0]
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"], sent["model"]) == (0.6, 0.95, 64, "m")
    headers = {name.lower(): value for name, value in server.headers[0].items()}
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert not [path for path in out.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert server.most_at_once <= 2


def start(base_url: str, root: Path) -> "subprocess.Popen[str]":
    """The stage in a process of its own, in ROOT/out."""
    out = root / "out"
    if not out.exists():
        out.mkdir()
        settings = config(block(base_url)).model_dump(mode="json")
        inputs = {"problems": str(write_problems(root / "problems"))}
        (out / "config.json").write_text(json.dumps({"stage": "evaluate", "config": settings, "inputs": inputs}))
    command = [sys.executable, "-m", "tasks.evaluate", str(out)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_evaluate_server_away_ends_with_the_code_that_is_tried_again(tmp_path):
    stage = start(f"http://127.0.0.1:{closed_port()}/v1", tmp_path)
    _, said = stage.communicate(timeout=300)
    assert stage.returncode == 75 and "server.patience_s" in said


def test_evaluate_killed_while_the_server_hangs_asks_only_for_the_rest(server, tmp_path):
    server.hang_after = 3
    killed = start(server.base_url, tmp_path)
    journals = (tmp_path / "out" / "work").rglob
    wait_until(lambda: sum(path.read_bytes().count(b"\n") for path in journals("*.journal")) == 3, 300, "three answers")
    killed.kill()
    killed.communicate()
    server.requests.clear()
    server.hang_after = None
    last = start(server.base_url, tmp_path)
    _, said = last.communicate(timeout=300)
    assert last.returncode == 0, said
    assert num_asked(server) == len(ROWS) * NUM_SAMPLES - 3
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["accuracy"] == 0.75


def test_server_engine_seeds_differ_between_samples_and_return_in_another_run(server, tmp_path):
    first = texts(ask(server, tmp_path / "a"))
    seeds = sorted(request["seed"] for request in server.requests)
    assert len(set(seeds)) == len(ROWS) * NUM_SAMPLES
    assert texts(ask(server, tmp_path / "b")) == first
    assert sorted(request["seed"] for request in server.requests[len(seeds) :]) == seeds


def test_server_engine_server_that_breaks_down_is_asked_only_for_the_rest(server, tmp_path):
    whole = texts(ask(server, tmp_path / "whole"))
    server.requests.clear()
    server.fail_after = 3
    with pytest.raises(TransientError, match=r"server\.patience_s.*What is finished is kept"):
        ask(server, tmp_path / "part")
    server.requests.clear()
    server.fail_after = None
    assert texts(ask(server, tmp_path / "part")) == whole
    assert num_asked(server) == len(ROWS) * NUM_SAMPLES - 3
    assert texts(ask(server, tmp_path / "part")) == whole
    assert num_asked(server) == len(ROWS) * NUM_SAMPLES - 3


def test_server_engine_another_model_or_sampling_does_not_take_the_kept_answers(server, tmp_path):
    ask(server, tmp_path / "out")
    ask(server, tmp_path / "out", revision="2025-05-28")
    assert num_asked(server) == 2 * len(ROWS) * NUM_SAMPLES
    ask(server, tmp_path / "out", revision="2025-05-28", max_concurrent=1)
    assert num_asked(server) == 2 * len(ROWS) * NUM_SAMPLES


def test_server_engine_nobody_listens_is_transient_and_names_address_and_key(tmp_path):
    port = closed_port()
    with pytest.raises(TransientError, match=rf"endpoint http://127\.0\.0\.1:{port}/v1 .*server\.patience_s"):
        ask(f"http://127.0.0.1:{port}/v1", tmp_path / "out")


def test_server_engine_wrong_key_is_the_users_mistake(server, tmp_path):
    server.always = "401"
    with pytest.raises(UserError, match=r"MY_KEY \(server\.api_key_env\)"):
        ask(server, tmp_path / "out")


def test_server_engine_refused_question_is_named_and_alone_asked_again(server, tmp_path):
    server.refuse_if = '"8"'
    with pytest.raises(UserError, match=r"refused 2 of 8 requests.*problem 'p1', sample 0.*context is too long"):
        ask(server, tmp_path / "out")
    server.refuse_if = None
    server.requests.clear()
    assert len(ask(server, tmp_path / "out")) == len(ROWS)
    assert [request["messages"][0]["content"] for request in server.requests] == ["8", "8"]


def test_server_engine_filtered_completion_counts_as_one_without_answer(server, tmp_path):
    server.faults = ["filtered"]
    responses = texts(ask(server, tmp_path / "out"))
    assert sum(text == "" for group in responses for text in group) == 1


def test_server_engine_nul_and_surrogate_in_a_completion_can_be_stored(server, tmp_path):
    server.faults = ["surrogate"]
    (odd,) = [text for group in texts(ask(server, tmp_path / "out")) for text in group if "\0" in text]
    assert odd == "a\ufffdb\0c"
    pq.write_table(pa.table({"completion": [odd]}), tmp_path / "odd.parquet")
    assert pq.read_table(tmp_path / "odd.parquet")["completion"].to_pylist() == [odd]


def test_server_engine_server_without_usage_is_refused(server, tmp_path):
    server.always = "uncounted"
    with pytest.raises(UserError, match="`usage`"):
        ask(server, tmp_path / "out")


def test_server_engine_asked_to_stop_keeps_what_is_finished(server, tmp_path):
    whole = texts(ask(server, tmp_path / "whole"))
    said = run_and_ask_to_stop(lambda: ask(server, tmp_path / "part"), tmp_path / "part", 3)
    assert "of 8 completions were there" in said
    server.requests.clear()
    assert texts(ask(server, tmp_path / "part")) == whole
    assert 0 < num_asked(server) <= len(ROWS) * NUM_SAMPLES - 3


def test_config_server_address_and_pace_are_not_identity():
    one = config(block("http://a/v1")).identity()
    assert one == config(block("http://b/v1", max_concurrent=9, timeout_s=1, api_key_env="OTHER")).identity()
    assert one["server"] == {"model": "m", "revision": None}
    assert one != config(block("http://a/v1", model="n")).identity()
    assert one != config(block("http://a/v1", revision="r")).identity()


def test_config_server_and_engine_must_agree():
    with pytest.raises(ValueError, match="there is no block `server`"):
        config(None)
    with pytest.raises(ValueError, match="set engine: openai"):
        config(block("http://a/v1"), engine="vllm")
    with pytest.raises(ValueError, match="dtype is given"):
        config(block("http://a/v1"), dtype="bfloat16")
    with pytest.raises(ValueError, match="base_url"):
        config(block("localhost:8000"))
    with pytest.raises(ValueError, match="max_concurrent"):
        config(block("http://a/v1", max_concurrent=0))
