"""`r1 nightly --launch slurm`: a night whose stages are Slurm jobs, and one that was killed while its job waited."""

import pytest
from r1_process import wait_until
from r1_slurm import kill, queue, submitted, wait_for_jobs
from tiny_night import STAGES, SURE

from tasks.core.store.nights import read_nights


def test_night_on_a_cluster_is_killed_and_the_next_one_ends_its_job_and_has_a_verdict(slurm_r1, drained, tmp_path):
    recipe, targets = slurm_r1.recipe(STAGES + "    resources: {gpus: 1}\n", "tiny"), tmp_path / "targets.yaml"
    targets.write_text(f"targets:\n  - {{recipe: {recipe}, stage: after, value: 0.9, {SURE}}}\n")
    command = ("nightly", "--targets", targets, *slurm_r1.launch, "--price-per-gpu-hour", "3")
    killed = slurm_r1.start(*command)
    wait_for_jobs(2)
    waiting = set(queue("%i"))
    kill(killed)
    assert set(queue("%i")) == waiting
    second = slurm_r1.start(*command)
    wait_until(lambda: len(queue()) == 2 and not waiting & set(queue("%i")), 120, "the second night's jobs")
    drained()
    output, errors = second.communicate(timeout=300)
    assert second.returncode == 1, output + errors
    assert "tiny:after regressed: 0.0 % against 90.0 %" in " ".join(output.split())
    (night,), notes = read_nights(slurm_r1.store)
    record = slurm_r1.record("evaluate")["provenance"]
    assert notes == [] and len(record["slurm_jobs"]) == 1
    assert night.gpu_hours == pytest.approx(record["gpu_s"] / 3600) and night.cost == 3 * night.gpu_hours > 0
    names = [name.rpartition("-")[0] for name in submitted(slurm_r1.store)]
    assert queue() == [] and names == ["evaluate", *["fetch_model"] * 2, *["prepare_data"] * 2]
