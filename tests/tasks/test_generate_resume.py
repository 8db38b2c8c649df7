"""generate_traces against a real server: killed at random moments, refused, without a key, with another prompt."""

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from tasks.core.teachers.prompts import INSTRUCTIONS, SYSTEM_PROMPTS
from tasks.core.teachers.requests import request_seed
from tests.tasks.chat_server import ChatServer
from tests.tasks.test_generate_traces import finish, journaled, openai_teacher, start, wait_for, write_problems

NUM_KILLS, AT_ONCE = 10, 8


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_problems(tmp_path_factory.mktemp("input") / "problems")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


def without_latency(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"latency_s": 0.0} for row in rows]


def kept_seeds(out: Path) -> set[int]:
    """The seeds of all completions that are committed or in a journal."""
    files = (out / "work" / "parts").glob("*/*.parquet")
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    committed = {request_seed(7, row["problem_id"], row["sample"]) for row in rows}
    return committed | {line["key"][2] for line in journaled(out)}


def kill(process: Any) -> None:
    """SIGKILL to the stage alone; returns when the teacher's processes are gone as well."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert psutil.wait_procs(family, timeout=10)[1] == []


@pytest.mark.slow
def test_run_killed_ten_times_asks_nothing_twice_and_gives_the_file_of_an_undisturbed_one(
    problems: Path, tmp_path: Path, server: ChatServer
) -> None:
    seed = time.time_ns()
    print(f"seed of the kills: {seed}")  # pytest shows it when the test fails
    rng, out, num_lost, kept = random.Random(seed), tmp_path / "killed", 0, set[int]()
    server.delay_s = 0.1
    config: dict[str, Any] = {"num_problems": 100, "shard_size": 37}
    config["teacher"] = openai_teacher(server, max_concurrent=AT_ONCE)
    for _ in range(NUM_KILLS):
        server.requests.clear()
        process = start(out, problems, **config)
        wait_for(lambda: bool(server.requests), "request", timeout_s=180)
        time.sleep(rng.uniform(0, 0.25))
        kill(process)
        wait_for(lambda: not server.at_once, "answer to nobody")
        asked, kept_before, kept = [request["seed"] for request in server.requests], kept, kept_seeds(out)
        assert len(set(asked)) == len(asked) and kept_before.isdisjoint(asked) and kept_before <= kept
        lost = set(asked) - kept
        assert len(lost) <= AT_ONCE, "more was lost than what was in flight"
        num_lost += len(lost)
    server.requests.clear()
    rows = finish(start(out, problems, **config), out)
    asked = [request["seed"] for request in server.requests]
    assert len(asked) == len(set(asked)) == 400 - len(kept) > 0 and kept.isdisjoint(asked)
    assert not list((out / "work" / "parts").glob("*/.*.journal"))
    alone = tmp_path / "alone"
    assert without_latency(rows) == without_latency(finish(start(alone, problems, **config), alone))
    for row in rows:
        seed = request_seed(7, row["problem_id"], row["sample"])
        assert row["completion"] == f"<think>\nseed {seed}\n</think>\n\n<answer> {row['answer']} </answer>"


def test_endpoint_that_is_down_ends_the_stage_to_be_tried_again_and_refusals_become_rows(
    problems: Path, tmp_path: Path, server: ChatServer
) -> None:
    out = tmp_path / "out"
    config = {"num_problems": 12, "num_traces": 2, "shard_size": 5}
    teacher = openai_teacher(server, max_retries=0, patience_s=0.0, price_per_mtok_in=1e6, price_per_mtok_out=2e6)
    teacher |= {"system_prompt": "r1_chinese", "instruction": "boxed_english"}
    teacher |= {"max_concurrent": 1}  # or the refusal may come before answers that were given earlier
    server.fail_after = 7
    assert start(out, problems, teacher=teacher, **config).wait(120) == 75
    status = json.loads((out / "status.json").read_text())
    assert status["cause"] == "transient" and "InternalServerError" in status["error"]
    kept = kept_seeds(out)
    assert len(kept) == 7
    server.fail_after, server.requests, server.refuse_if = None, [], '\\"target\\": 26'  # 25 + 3 - 2
    rows = finish(start(out, problems, teacher=teacher, **config), out)
    assert len(server.requests) == 24 - 7 and kept.isdisjoint(request["seed"] for request in server.requests)
    errors = [row for row in rows if row["finish_reason"] == "error"]
    assert [(row["problem_id"], row["sample"]) for row in errors] == [("train-5", 0), ("train-5", 1)]
    assert all(row["completion"] == "" and "context is too long" in row["error"] for row in errors)
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["num_failed"], metrics["num_traces"], metrics["num_prompt_tokens"]) == (2, 24, 22 * 5)
    assert metrics["cost_usd"] == 22 * 5 + 2 * metrics["num_tokens"]
    assert metrics["tokens_per_s"] == pytest.approx(metrics["num_tokens"] / metrics["generation_wall_s"])
    for row, request in ((row, request) for row in rows for request in server.requests):
        if request["seed"] == request_seed(7, row["problem_id"], row["sample"]):
            own = row["prompt"][-1]["content"]
            assert own == row["answer"] and len(row["prompt"]) == 1
            system = {"role": "system", "content": SYSTEM_PROMPTS["r1_chinese"]}
            user = {"role": "user", "content": f"{own}\n\n{INSTRUCTIONS['boxed_english']}"}
            assert request["messages"] == [system, user]
