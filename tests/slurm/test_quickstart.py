"""Law: where a recipe runs does not change what comes out. The whole quickstart, made tiny, with real trainers."""

import json

import pytest
from r1_process import R1

TINY = (
    *("problems.num_train=24", "problems.num_eval=12", "traces.num_traces=4", "verified.max_per_problem=4"),
    *("traces.shard_size=8", "verified.shard_size=16"),
    *("sft.sft.max_steps=6", "sft.sft.save_steps=2", "sft.sft.per_device_train_batch_size=4"),
    *("grpo.grpo.max_steps=4", "grpo.grpo.save_steps=2", "grpo.grpo.per_device_train_batch_size=8"),
    *("grpo.grpo.max_completion_length=24", "before.num_samples=1", "after.num_samples=1"),
    *("before.max_new_tokens=24", "after.max_new_tokens=24"),
)
SHARED = ("traces.resources.shares=3", "verified.resources.shares=2", "verified.resources.max_parallel=1")
PROFILE = {"name": "all", "cpu_stages": "slurm", "poll_s": 0.5, "settle_s": 2.0}
COMPARED = ("problems.parquet", "traces.parquet", "verdicts.parquet", "model/model.safetensors", "completions.parquet")


def _settings(*overrides):
    return [word for override in overrides for word in ("--set", override)]


def _outcome(r1):
    """{stage/fingerprint/file: bytes} of all that a run is for."""
    files = (path for name in COMPARED for path in r1.store.glob(f"[a-z]*/*/{name}"))
    return {path.relative_to(r1.store).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_quickstart_on_slurm_with_arrays_gives_the_bytes_of_a_local_run(cluster, r1, tmp_path):
    here = R1(tmp_path / "here", r1.environment["PREFECT_API_URL"])
    here.directory.mkdir()
    here("run", "quickstart", *_settings(*TINY))
    profile = tmp_path / "all.yaml"
    profile.write_text(json.dumps(PROFILE))
    there = r1("run", "quickstart", "--launch", "slurm", "--cluster", profile, *_settings(*TINY, *SHARED))
    assert "of 3 shares ended" in there
    assert _outcome(r1) == _outcome(here) and len(_outcome(r1)) == 10
    (record,) = r1.store.glob("generate_traces/*/record.json")
    jobs = json.loads(record.read_text())["provenance"]["slurm_jobs"]
    assert len(jobs) == 4 and sum("_" in job for job in jobs) == 3  # the array's tasks, and the job that assembles
