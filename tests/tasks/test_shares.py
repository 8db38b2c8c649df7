"""Stages shared out to processes that are killed, started again, doubled or paused: the files are those of one."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from r1_process import PROJECT_DIR, wait_until

from tests.tasks.chat_server import ChatServer
from tests.tasks.test_generate_traces import SOLVER, openai_teacher, write_problems
from tests.tasks.test_verify_traces import RIGHT, WRONG, say, write_traces

NUM_TRACES = 5_000
PART = 100
AT_ONCE = 2


def prepare(out: Path, stage: str, config: dict[str, Any], inputs: dict[str, Path]) -> Path:
    """Write OUT/config.json."""
    out.mkdir()
    job = {"stage": stage, "config": config, "inputs": {name: str(path) for name, path in inputs.items()}}
    (out / "config.json").write_text(json.dumps(job))
    return out


def start(out: Path, share: str | None = None) -> subprocess.Popen[bytes]:
    """Start the stage, or a share of it, logging to OUT/log.txt."""
    stage = json.loads((out / "config.json").read_text())["stage"]
    command = [sys.executable, "-m", f"tasks.{stage}", str(out), *(["--share", share] if share else [])]
    with (out / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=PROJECT_DIR, stdout=log, stderr=log, start_new_session=True)


def finish(process: subprocess.Popen[bytes], out: Path) -> None:
    assert process.wait(240) == 0, (out / "log.txt").read_text()


def committed(out: Path) -> dict[Path, int]:
    """When each part was written."""
    return {path: path.stat().st_mtime_ns for path in (out / "work" / "parts").glob("*/*.parquet")}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def desk(out: Path, index: int) -> Path:
    return out / "work" / "shares" / str(index)


def run_shares(out: Path, num_shares: int, num_kills: int, longest_life_s: float) -> int:
    """Run all shares, some at once, each after so many kills at random moments; returns how many kills hit."""
    seed = time.time_ns()
    print(f"seed of the kills: {seed}")  # pytest shows it when the test fails

    def live(index: int) -> int:
        rng, num_hits = random.Random(f"{seed}:{index}"), 0
        for _ in range(num_kills):
            process = start(out, f"{index}/{num_shares}")
            time.sleep(rng.uniform(0, longest_life_s))
            num_hits += process.poll() is None
            process.kill()
            process.wait()
        finish(start(out, f"{index}/{num_shares}"), out)
        return num_hits

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(live, range(num_shares)))


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Countdown, and one in five mathematics that only Math-Verify can judge: right, wrong, cut off, twice the same."""
    rows = []
    for i in range(NUM_TRACES):
        row = {"problem_id": f"p{i // 4}", "sample": i % 4, "num_tokens": i % 13}
        row |= {"finish_reason": "length" if i % 11 == 0 else "stop"}
        if i % 5:
            row |= {"completion": say(RIGHT if i % 3 else WRONG, f"thought {i // 8}")}
        else:
            gold = rf"\frac{{{i}x+1}}{{7}}"
            answer = rf"\frac{{1+{i}x}}{{7}}" if i % 3 else "x"
            row |= {"task": "math", "answer": gold, "completion": rf"<answer>\boxed{{{answer}}}</answer>"}
        rows.append(row)
    return write_traces(tmp_path_factory.mktemp("input") / "traces", rows)


def prepare_verify(out: Path, traces: Path, **fields: Any) -> Path:
    config = {"max_per_problem": 2, "select": "random", "seed": 0, "shard_size": PART, "timeout_s": 60.0} | fields
    return prepare(out, "verify_traces", config, {"traces": traces})


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory, traces: Path) -> Path:
    """The output of one process that nothing interrupted."""
    out = prepare_verify(tmp_path_factory.mktemp("verified") / "out", traces)
    finish(start(out), out)
    assert len(committed(out)) == NUM_TRACES // PART
    verdicts = read(out / "metrics.json")["verdicts"]
    assert verdicts["correct"] > 3_000 and verdicts["wrong"] > 1_500
    tiers = set(pq.read_table(out / "verdicts.parquet", columns=["tier"])["tier"].to_pylist())
    assert tiers == {"countdown", "math_verify"}
    return out


def assert_same(out: Path, expected: Path, *names: str) -> None:
    for name in names:
        assert (out / name).read_bytes() == (expected / name).read_bytes(), f"{name} differs"


VERIFIED = ("verdicts.parquet", "traces.parquet", "metrics.json")


def test_verify_traces_in_shares_that_are_killed_gives_the_files_of_one_process(
    traces: Path, verified: Path, tmp_path: Path
) -> None:
    out = prepare_verify(tmp_path / "shared", traces)
    assert run_shares(out, num_shares=4, num_kills=3, longest_life_s=3) > 0
    parts = committed(out)
    assert len(parts) == NUM_TRACES // PART and not (out / "verdicts.parquet").exists()
    for index in range(4):
        progress = read(desk(out, index) / "progress.json")
        mine = len(range(index, NUM_TRACES // PART, 4)) * PART
        assert (progress["done"], progress["total"]) == (mine, mine)
        assert read(desk(out, index) / "status.json")["state"] == "done"
    (next(iter(parts)).parent / ".00007.feedbeef.partial").write_bytes(b"PAR1 torn")
    finish(start(out), out)
    assert committed(out) == parts, "the finishing process did a part again"
    assert f"{NUM_TRACES} of {NUM_TRACES} traces are judged already" in (out / "log.txt").read_text()
    assert_same(out, verified, *VERIFIED)


def test_verify_traces_killed_and_resumed_gives_the_files_of_one_process(
    traces: Path, verified: Path, tmp_path: Path
) -> None:
    out = prepare_verify(tmp_path / "killed", traces)
    process = start(out)
    wait_until(lambda: len(committed(out)) >= 5, 60, "five parts")
    process.kill()
    process.wait()
    parts = committed(out)
    assert 5 <= len(parts) < NUM_TRACES // PART
    prepare_verify(tmp_path / "other_size", traces, shard_size=333, num_workers=2)
    (tmp_path / "other_size" / "config.json").replace(out / "config.json")  # the first cut stands
    finish(start(out), out)
    assert parts.items() <= committed(out).items(), "a committed part was written again"
    assert_same(out, verified, *VERIFIED)


def test_verify_traces_same_parts_by_two_processes_at_once_is_harmless(
    traces: Path, verified: Path, tmp_path: Path
) -> None:
    out = prepare_verify(tmp_path / "doubled", traces)
    twin = start(out, "0/1")
    finish(start(out), out)
    finish(twin, out)
    assert len(committed(out)) == NUM_TRACES // PART
    assert_same(out, verified, *VERIFIED)


@pytest.mark.parametrize("share", [None, "1/2"])
def test_verify_traces_asked_to_stop_pauses_between_parts_and_goes_on(
    traces: Path, verified: Path, tmp_path: Path, share: str | None
) -> None:
    out = prepare_verify(tmp_path / "paused", traces)
    where = desk(out, 1) if share else out
    process = start(out, share)
    wait_until(lambda: len(committed(out)) >= 2, 60, "two parts")
    (where / "stop").touch()
    assert process.wait(60) == 75
    status, parts = read(where / "status.json"), committed(out)
    total = NUM_TRACES // 2 if share else NUM_TRACES
    assert (status["state"], status["cause"]) == ("failed", "paused")
    assert f"paused after {len(parts) * PART} of {total} traces" in status["error"]
    assert 2 <= len(parts) < total // PART
    finish(start(out), out)
    assert parts.items() <= committed(out).items()
    assert_same(out, verified, *VERIFIED)


def test_verify_traces_other_traces_in_the_same_directory_are_judged_anew(tmp_path: Path) -> None:
    row = {"problem_id": "a", "completion": say(RIGHT)}
    out = prepare_verify(tmp_path / "out", write_traces(tmp_path / "one", [row]))
    finish(start(out), out)
    more = write_traces(tmp_path / "two", [row, {"problem_id": "b", "completion": say(WRONG)}])
    prepare_verify(tmp_path / "again", more)
    (tmp_path / "again" / "config.json").replace(out / "config.json")
    finish(start(out), out)
    assert read(out / "metrics.json")["verdicts"] == {"correct": 1, "wrong": 1}


def prepare_generate(out: Path, problems: Path, **fields: Any) -> Path:
    config = {"seed": 7, "num_traces": 4, "shard_size": 10, "teacher": SOLVER} | fields
    return prepare(out, "generate_traces", config, {"problems": problems})


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_problems(tmp_path_factory.mktemp("input") / "problems")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


def test_generate_traces_in_shares_one_of_them_killed_gives_the_file_of_one_process(
    problems: Path, tmp_path: Path
) -> None:
    alone, out = (prepare_generate(tmp_path / name, problems, num_traces=40) for name in ("alone", "shared"))
    finish(start(alone), alone)
    victim, other = start(out, "0/3"), start(out, "1/3")
    wait_until(lambda: any(int(path.stem) % 3 == 0 for path in committed(out)), 120, "a part of share 0")
    family = psutil.Process(victim.pid).children(recursive=True)
    time.sleep(random.uniform(0, 0.3))
    victim.kill()
    victim.wait()
    finish(other, out)
    assert psutil.wait_procs(family, timeout=10)[1] == [], "distilabel outlived its share"
    torn = [path for path in desk(out, 0).rglob("*") if path.name in ("pipeline.yaml", "batch_manager.json")]
    assert torn  # what distilabel was writing, as a kill can leave it
    for path in torn:
        path.write_text("")
    num_kept = sum(int(path.stem) % 3 == 0 for path in committed(out))
    assert 0 < num_kept < 200 and read(desk(out, 1) / "progress.json")["total"] == 2000
    again, last = start(out, "0/3"), start(out, "2/3")
    finish(again, out)
    finish(last, out)
    assert f"{num_kept * 10} of 2000 traces are committed already" in (out / "log.txt").read_text()
    parts = committed(out)
    assert len(parts) == 600 and not (out / "traces.parquet").exists()
    finish(start(out), out)
    assert committed(out) == parts, "the finishing process did a part again"
    assert_same(out, alone, "traces.parquet")
    metrics = [read(path / "metrics.json") for path in (out, alone)]
    assert metrics[0]["num_tokens"] == metrics[1]["num_tokens"]
    # Of all shares' time; what the killed one wrote again counts, so it is a little more than the rows hold.
    assert metrics[0]["tokens_per_s"] > 0 and metrics[0]["generation_wall_s"] > 0


def test_generate_traces_share_asked_to_stop_pauses_at_once_and_shows_a_hanging_endpoint(
    problems: Path, tmp_path: Path, server: ChatServer
) -> None:
    server.hang_after = 15  # a part and a half
    out = prepare_generate(tmp_path / "paused", problems, num_problems=15, teacher=openai_teacher(server))
    process = start(out, "0/2")
    wait_until(lambda: len(committed(out)) == 1 and server.num_hanging == 8, 60, "hanging request")
    progress = desk(out, 0) / "progress.json"
    wait_until(lambda: read(progress)["done"] == 15, 30, "progress after the last answer")
    time.sleep(1.5)
    seen = progress.stat().st_mtime_ns
    time.sleep(1)
    assert progress.stat().st_mtime_ns == seen, "a hanging teacher looks alive"
    (desk(out, 0) / "stop").touch()
    assert process.wait(10) == 75
    assert "paused after 15 of 30 traces" in read(desk(out, 0) / "status.json")["error"]
    assert os.listdir(desk(out, 0).parent) == ["0"] and len(committed(out)) == 1
