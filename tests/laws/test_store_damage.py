"""Law: a damaged artifact is never believed; the miss says why, and the next build replaces it."""

import json
import os

import pytest
from store_toy import ToyConfig, build

from tasks.core.store import Hit, Miss, Store


def _flip_a_byte(path):
    """Same size, same times: only the content tells."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _edit_record(path, change):
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))


DAMAGES = {
    "flipped byte": (lambda at: _flip_a_byte(at / "model/weights.bin"), "model/weights.bin has other content"),
    "truncated": (lambda at: os.truncate(at / "model/weights.bin", 10), "model/weights.bin has 10 bytes, not 3200"),
    "missing": (lambda at: (at / "metrics.json").unlink(), "metrics.json is missing"),
    "no record": (lambda at: (at / "record.json").unlink(), "record.json is missing"),
    "torn record": (lambda at: os.truncate(at / "record.json", 100), "record.json is not JSON"),
    "binary record": (lambda at: (at / "record.json").write_bytes(b"\xff\x00"), "record.json is not JSON"),
    "nicer metrics": (
        lambda at: _edit_record(at / "record.json", lambda body: body["metrics"].update(accuracy=1.0)),
        "record.json does not match its own seal",
    ),
    "bare record": (lambda at: (at / "record.json").write_text("{}"), "record.json has no seal"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_store_damaged_artifact_is_a_miss_with_reason_and_is_rebuilt(tmp_path, damage):
    spoil, reason = DAMAGES[damage]
    store = Store(tmp_path)
    built, _ = build(store, ToyConfig(seed=0))
    spoil(built.path)
    found = store.lookup("toy", built.record.fingerprint)
    assert found.damaged and found.reason.startswith(f"the artifact is damaged: {reason}")
    assert store.verify(built.path)[0].startswith(reason)
    assert isinstance(store.glance("toy", built.record.fingerprint), Hit if damage == "flipped byte" else Miss)
    again, why = build(store, ToyConfig(seed=0))
    assert why == found.reason
    assert again.record.files == built.record.files
    assert isinstance(store.lookup("toy", built.record.fingerprint), Hit)
    assert len(list((tmp_path / ".damaged").iterdir())) == 1


def test_store_artifact_copied_to_another_fingerprint_is_not_believed(tmp_path):
    store = Store(tmp_path)
    built, _ = build(store, ToyConfig(seed=0))
    built.path.rename(store.path("toy", "0" * 20))
    assert f"record.json is that of toy/{built.record.fingerprint}" in store.lookup("toy", "0" * 20).reason


def test_store_many_damaged_files_name_three_and_count_the_rest(tmp_path):
    store = Store(tmp_path)
    built, _ = build(store, ToyConfig(seed=0))
    for name in ("config.json", "metrics.json", "model/weights.bin"):
        (built.path / name).unlink()
    reason = store.lookup("toy", built.record.fingerprint).reason
    assert reason.count("is missing") == 3 and "more" not in reason


def test_store_link_in_staging_is_published_as_a_real_file(tmp_path):
    store = Store(tmp_path / "store")
    (tmp_path / "cache.bin").write_bytes(b"weights")
    fingerprint = build(Store(tmp_path / "other"), ToyConfig(seed=0))[0].record.fingerprint
    staging = store.staging("toy", fingerprint)
    (staging / "linked.bin").symlink_to(tmp_path / "cache.bin")
    (staging / "dangling").symlink_to(tmp_path / "nothing")
    (staging / ".progress.json.1.partial").write_text("torn by a kill")
    hit, _ = build(store, ToyConfig(seed=0))
    (tmp_path / "cache.bin").write_bytes(b"changed")
    assert (hit.path / "linked.bin").read_bytes() == b"weights"
    assert set(hit.record.files) == {"config.json", "linked.bin", "metrics.json", "model/weights.bin"}
    assert isinstance(store.lookup("toy", fingerprint), Hit)


def test_store_metrics_with_nan_are_recorded_as_null_and_still_hit(tmp_path, monkeypatch):
    monkeypatch.setattr("store_toy.write_json", lambda path, value: path.write_text(_with_nan(path, value)))
    hit, _ = build(Store(tmp_path), ToyConfig(seed=0))
    assert hit.record.metrics == {"accuracy": None}
    assert isinstance(Store(tmp_path).lookup("toy", hit.record.fingerprint), Hit)


def _with_nan(path, value):
    return json.dumps({"accuracy": float("nan")} if path.name == "metrics.json" else value)


def test_store_stage_without_metrics_is_refused_and_nothing_is_published(tmp_path, monkeypatch):
    monkeypatch.setattr("store_toy.walk", lambda config, out: None)
    with pytest.raises(ValueError, match=r"stage toy wrote no metrics\.json"):
        build(Store(tmp_path), ToyConfig(seed=0))
    assert list(Store(tmp_path).artifacts()) == []
