"""The vLLM server beside a training or a teacher: its start and failures, and that none outlives the other."""

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from r1_process import stage_pids, wait_until
from staged import end_of, launcher, log_of

from slurm.job import Cause, End, Job
from slurm.local import LocalLauncher
from slurm.resources import Resources
from slurm.server import Server, ServerFailed
from slurm.serving import block_of, trains
from tasks.core.files import write_json
from tasks.core.teachers.requests import request_seed
from tests.tasks.test_generate_traces import write_problems

BESIDE = {"gpus": 2, "vllm_gpus": 1}
STAND_IN = Path(__file__).with_name("vllm_stand_in.py")

pytestmark = [
    pytest.mark.usefixtures("toy_stage"),
    pytest.mark.skipif(Path(sys.executable).with_name("vllm").exists(), reason="a real vllm would be started"),
]


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """A stand-in for `vllm` on PATH; call the fixture to read with what it was started."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "vllm").write_text(f"#!{sys.executable}\n{STAND_IN.read_text()}")
    (folder / "vllm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def lines() -> list[dict[str, Any]]:
        path = folder / "started.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return lines


def learner(tmp_path: Path, resources: dict[str, Any], grpo: dict[str, Any] | None = None, **config: Any) -> Job:
    """A job of the toy learner."""
    directory = tmp_path / ".staging" / "learner-0"
    directory.mkdir(parents=True)
    settings = {"seed": 5, "grpo": {"use_vllm": True, "vllm_mode": "server"} | (grpo or {})} | config
    inputs = {"model": str(tmp_path / "model artifact")}
    write_json(directory / "config.json", {"stage": "learner", "inputs": inputs, "config": settings})
    write_json(directory / "launch.json", {"stage": "learner", "resources": resources, "max_continuations": 0})
    return Job("learner", directory, Resources(**resources))


def teacher(tmp_path: Path, resources: dict[str, Any], share: tuple[int, int] | None = None, **fields: Any) -> Job:
    """A job of generate_traces whose teacher asks the server that is started for it."""
    directory = tmp_path / ".staging" / "generate_traces-0"
    directory.mkdir(parents=True, exist_ok=True)
    asked = {"kind": "openai", "model": "tiny-r1", "temperature": 0.6, "top_p": 0.95, "max_new_tokens": 64} | fields
    inputs = {"model": str(tmp_path / "model artifact"), "problems": str(tmp_path / "problems")}
    settings = {"seed": 5, "num_traces": 2, "num_problems": 10, "shard_size": 3, "teacher": asked}
    write_json(directory / "config.json", {"stage": "generate_traces", "inputs": inputs, "config": settings})
    write_json(directory / "launch.json", {"stage": "generate_traces", "resources": resources, "max_continuations": 0})
    return Job("generate_traces", directory, Resources(**resources), is_distributed=False, share=share)


def option(start: dict[str, Any], name: str) -> str:
    argv = start["argv"]
    return str(argv[argv.index(name) + 1])


def servers(tmp_path: Path) -> list[int]:
    """The processes of stand-ins, those on the cluster's nodes too."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline() if process.status() != psutil.STATUS_ZOMBIE else []
            found += [process.pid] if str(tmp_path / "bin" / "vllm") in words else []
    return found


def wait_for_steps(job: Job) -> None:
    wait_until(lambda: (job.directory / "progress.json").exists(), 30, "the learner's first step")


def test_server_gets_its_gpus_and_the_recipes_numbers_and_ends_with_the_training(tmp_path, started):
    grpo = {"vllm_max_model_length": 512, "vllm_gpu_memory_utilization": 0.8, "model_init_kwargs": {"dtype": "float32"}}
    job = learner(tmp_path, BESIDE, grpo)
    assert end_of(LocalLauncher().start(job)) == End(0, "")
    (start,) = started()
    assert not servers(tmp_path)
    seen = json.loads((job.directory / "metrics.json").read_text())
    assert (seen["CUDA_VISIBLE_DEVICES"], start["CUDA_VISIBLE_DEVICES"]) == ("0", "1")
    assert seen["R1_VLLM_SERVER_URL"] == f"http://127.0.0.1:{option(start, '--port')}"
    assert seen["VLLM_HOST_IP"] == "127.0.0.1" and seen["R1_VLLM_GROUP_PORT"] != option(start, "--port")
    assert start["VLLM_SERVER_DEV_MODE"] == "1"
    assert start["argv"][:2] == ["serve", str(tmp_path / "model artifact" / "model")]
    options = {"tensor-parallel-size": "1", "seed": "5", "max-model-len": "512", "gpu-memory-utilization": "0.8"}
    options |= {
        "dtype": "float32",
        "logprobs-mode": "processed_logprobs",
        "weight-transfer-config": '{"backend": "nccl"}',
    }
    assert {name: option(start, f"--{name}") for name in options} == options


def test_server_whose_port_was_taken_is_started_again_on_another(tmp_path, started, monkeypatch):
    monkeypatch.setenv("R1_STAND_IN", "late")
    with Server(learner(tmp_path, BESIDE)) as server:
        first, second = started()
        assert option(first, "--port") != option(second, "--port")
        assert server.job.env["R1_VLLM_SERVER_URL"].endswith(":" + option(second, "--port"))
        assert server.check() == ""
    assert not servers(tmp_path)


def test_server_that_never_answers_is_ended_and_its_log_is_told(tmp_path, started, monkeypatch):
    monkeypatch.setenv("R1_STAND_IN", "deaf")
    monkeypatch.setattr("slurm.server.START_LIMIT_S", 2.0)
    with (
        pytest.raises(ServerFailed, match=r"did not answer within 0.03\d* minutes") as caught,
        Server(learner(tmp_path, BESIDE)),
    ):
        pytest.fail("it never was healthy")
    assert (caught.value.end.exit_code, caught.value.end.cause) == (75, Cause.SERVER_DIED)
    assert "GET /health" in caught.value.end.error
    assert not servers(tmp_path)


@pytest.mark.parametrize(("block", "is_training"), [("grpo", True), ("ppo", True), ("teacher", False)])
def test_server_reads_its_settings_from_the_block_that_asks_it(tmp_path, block, is_training):
    write_json(tmp_path / "config.json", {"config": {"seed": 5, block: {}}})
    job = Job("any", tmp_path, Resources())
    assert (block_of(job), trains(job)) == (block, is_training)


@pytest.mark.parametrize(
    ("says", "exit_code", "cause", "hint"),
    [
        ("the disk is on fire", 75, Cause.SERVER_DIED, "exit code 1"),
        ("torch.OutOfMemoryError: CUDA out of memory.", 2, Cause.OUT_OF_MEMORY, "grpo.vllm_max_model_length"),
        ("User-specified max_model_len (512) is greater", 2, Cause.USER_ERROR, "User-specified"),
    ],
)
def test_server_that_dies_at_its_start_fails_the_job_with_its_last_words(
    tmp_path, started, monkeypatch, says, exit_code, cause, hint
):
    monkeypatch.setenv("R1_STAND_IN", "broken")
    monkeypatch.setenv("R1_STAND_IN_SAYS", says)
    end = end_of(LocalLauncher().start(learner(tmp_path, BESIDE)))
    assert (end.exit_code, end.cause) == (exit_code, cause)
    assert "ended before it was ready" in end.error and hint in end.error and says in end.error


def test_server_without_vllm_is_refused_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    end = end_of(LocalLauncher().start(learner(tmp_path, BESIDE)))
    assert (end.exit_code, end.cause) == (2, Cause.USER_ERROR)
    assert "gpu extra" in end.error


def test_server_for_more_gpus_than_there_are_is_refused(tmp_path, started, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f")
    end = end_of(LocalLauncher().start(learner(tmp_path, BESIDE)))
    assert end.exit_code == 2 and "resources.gpus is 2, but CUDA_VISIBLE_DEVICES here is 'GPU-8f'" in end.error
    assert started() == []


def test_server_that_dies_ends_the_training(tmp_path, started, monkeypatch):
    monkeypatch.setenv("R1_STAND_IN", "short")
    job = learner(tmp_path, BESIDE, num_steps=10_000)
    end = end_of(LocalLauncher().start(job))
    assert (end.exit_code, end.cause) == (75, Cause.SERVER_DIED)
    assert "the vLLM server died" in end.error and "GET /health" in end.error
    assert not stage_pids(tmp_path) and not servers(tmp_path)


def test_server_ends_when_the_training_crashes(tmp_path, started):
    end = end_of(LocalLauncher().start(learner(tmp_path, BESIDE, crash=True)))
    assert end == End(1, "ValueError: the learner was told to crash", Cause.CODE_ERROR)
    assert not servers(tmp_path)


def test_server_ends_when_the_job_is_cancelled(tmp_path, started):
    job = learner(tmp_path, BESIDE, num_steps=10_000)
    running = LocalLauncher().start(job)
    wait_for_steps(job)
    running.cancel()
    assert stage_pids(tmp_path) == []
    wait_until(lambda: not servers(tmp_path), 30, "the server's end")


def test_server_ends_when_the_job_is_cancelled_before_it_answers(tmp_path, started, monkeypatch):
    monkeypatch.setenv("R1_STAND_IN", "deaf")
    running = LocalLauncher().start(learner(tmp_path, BESIDE))
    wait_until(started, 30, "the server's start")
    running.cancel()
    wait_until(lambda: not servers(tmp_path) and not stage_pids(tmp_path), 30, "the end of all")
    end = running.poll()
    assert end is not None and (end.error, end.cause) == ("interrupted", Cause.INTERRUPTED)


def test_server_and_training_end_when_their_supervisor_is_killed(tmp_path, started):
    job = learner(tmp_path, BESIDE, num_steps=10_000)
    running = LocalLauncher().start(job)
    wait_for_steps(job)
    os.kill(running.leader.pid, signal.SIGKILL)
    wait_until(lambda: not servers(tmp_path) and not stage_pids(tmp_path), 30, "the end of all")
    assert end_of(running).exit_code != 0


def test_server_beside_a_teacher_writes_its_traces_under_the_name_that_the_teacher_asks_for(tmp_path, started):
    write_problems(tmp_path / "problems")
    job = teacher(tmp_path, {"gpus": 2, "vllm_gpus": 2}, vllm_max_model_length=512, vllm_gpu_memory_utilization=0.5)
    assert end_of(LocalLauncher().start(job), timeout_s=240) == End(0, ""), log_of(job)
    (start,) = started()
    assert start["argv"][:2] == ["serve", str(tmp_path / "model artifact" / "model")]
    options = {"tensor-parallel-size": "2", "seed": "5", "served-model-name": "tiny-r1", "generation-config": "vllm"}
    options |= {"max-model-len": "512", "gpu-memory-utilization": "0.5"}
    assert {name: option(start, f"--{name}") for name in options} == options
    assert (start["CUDA_VISIBLE_DEVICES"], start["VLLM_SERVER_DEV_MODE"]) == ("0,1", None)
    assert "--weight-transfer-config" not in start["argv"]
    rows = pq.read_table(job.directory / "traces.parquet").to_pylist()
    seeds = [request_seed(5, row["problem_id"], row["sample"]) for row in rows]
    assert [row["completion"] for row in rows] == [f"tiny-r1: {seed}" for seed in seeds] and len(rows) == 20
    assert not servers(tmp_path)


def test_server_of_each_share_has_a_place_of_its_own_and_the_assembling_job_has_none(tmp_path, started):
    needs = {"gpus": 1, "vllm_gpus": 1, "shares": 2}
    jobs = [teacher(tmp_path, needs, share=(index, 2)) for index in range(2)]
    for job in jobs:
        job.desk.mkdir(parents=True)
    with Server(jobs[0]) as one, Server(jobs[1]) as other:
        assert len({server.job.env["R1_VLLM_SERVER_URL"] for server in (one, other)}) == 2
        assert (job.desk / "server.log").exists() and (jobs[0].desk / "work" / "server.json").exists()
        assert one.check() == other.check() == ""
    assembling = teacher(tmp_path, needs)
    write_json(jobs[0].desk / "status.json", {"state": "done", "exit_code": 0})
    with Server(assembling) as server:  # the other share was lost, so its parts are still to be written
        assert server.job.env["R1_VLLM_SERVER_URL"]
    write_json(jobs[1].desk / "status.json", {"state": "done", "exit_code": 0})
    with Server(assembling) as server:
        assert server.job.env == {}
    assert len(started()) == 3 and not servers(tmp_path)


def test_server_beside_a_teacher_that_lacks_memory_names_the_teachers_keys(tmp_path, started, monkeypatch):
    monkeypatch.setenv("R1_STAND_IN", "broken")
    monkeypatch.setenv("R1_STAND_IN_SAYS", "torch.OutOfMemoryError: CUDA out of memory.")
    with (
        pytest.raises(ServerFailed, match=r"Lower teacher\.vllm_max_model_length or teacher\.vllm_gpu_memory"),
        Server(teacher(tmp_path, {"gpus": 1, "vllm_gpus": 1})),
    ):
        pytest.fail("it never was healthy")


def test_server_on_a_node_of_its_own_serves_the_training_on_the_other(tmp_path, started, cluster):
    job = learner(tmp_path, {"gpus": 1, "vllm_gpus": 1, "vllm_own_node": True})
    assert end_of(launcher().start(job)) == End(0, ""), log_of(job)
    (start,) = started()
    seen = json.loads((job.directory / "metrics.json").read_text())
    assert [seen["SLURMD_NODENAME"], start["SLURMD_NODENAME"]] == list(cluster.nodes)
    assert seen["CUDA_VISIBLE_DEVICES"] == start["CUDA_VISIBLE_DEVICES"] == "0"
    wait_until(lambda: not servers(tmp_path), 30, "the server's end")


def test_server_on_a_node_of_its_own_is_gone_with_the_cancelled_job(tmp_path, started, cluster):
    job = learner(tmp_path, {"gpus": 1, "vllm_gpus": 1, "vllm_own_node": True}, num_steps=10_000)
    running = launcher().start(job)
    wait_for_steps(job)
    running.cancel()
    assert cluster.run("squeue", "--noheader") == ""
    assert not servers(tmp_path) and not stage_pids(tmp_path)
