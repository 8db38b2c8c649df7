"""Law: a hit is believed after every byte was read; seeds make other artifacts, resources and loggers do not."""

import shutil
from pathlib import Path

import pytest

STAGES = "  first: {stage: toy}\n  second: {stage: toy, source: first}\n"


@pytest.fixture
def reproduce(prefect_server, tmp_path):
    """Run the recipe in this process; returns what became of its stages."""
    from flows.reproduce import reproduce as flow

    def run(*overrides):
        path = tmp_path / "test.yaml"
        path.write_text(f"name: test\ndescription: A test\nseed: 0\nstages:\n{STAGES}")
        return flow(recipe=str(path), overrides=list(overrides), store=str(tmp_path / "store"))["stages"]

    return run


def _reused(stages):
    return {name: stage["cached"] for name, stage in stages.items()}


def test_resources_operations_and_environment_reuse_what_is_there(reproduce, monkeypatch):
    reproduce()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("SWANLAB_MODE", "disabled")
    assert _reused(reproduce("first.resources.cpus=2", "second.step_s=0.5")) == {"first": True, "second": True}


def test_another_seed_builds_everything_and_the_first_one_is_still_there(reproduce):
    reproduce()
    assert _reused(reproduce("seed=1")) == {"first": False, "second": False}
    assert _reused(reproduce()) == {"first": True, "second": True}


@pytest.mark.parametrize("damage", ["flip a bit", "delete a file", "delete the artifact", "cut the record"])
def test_damaged_or_missing_artifact_is_rebuilt_alone_and_the_same(reproduce, damage):
    stages = reproduce()
    path = Path(stages["first"]["path"])
    metrics = path / "metrics.json"
    text = metrics.read_text()
    if damage == "flip a bit":
        metrics.write_bytes(bytes([text.encode()[0] ^ 1]) + text.encode()[1:])
    elif damage == "delete a file":
        metrics.unlink()
    elif damage == "delete the artifact":
        shutil.rmtree(path)
    else:
        (path / "record.json").write_text((path / "record.json").read_text()[:100])
    again = reproduce()
    assert _reused(again) == {"first": False, "second": True}
    assert again["first"]["fingerprint"] == stages["first"]["fingerprint"]
    assert metrics.read_text() == text
