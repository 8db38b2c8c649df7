"""Law: gc keeps what any kept run references, at any depth, and what anybody builds now."""

import os
import time

import pytest
from store_toy import ToyConfig, build, toy_run

from tasks.core.errors import UserError
from tasks.core.store import Hit, Store
from tasks.core.store import gc as gc_module
from tasks.core.store.gc import gc

DAY_S = 86400.0


def _names(removed):
    return {one.path.name for one in removed}


@pytest.fixture
def store(tmp_path):
    """Runs old and new; `new` uses only `child`, whose input is `parent`; `orphan` is used by no run."""
    store = Store(tmp_path)
    parent, _ = build(store, ToyConfig(seed=0))
    child, _ = build(store, ToyConfig(seed=1), {"model": parent.record.fingerprint})
    old, _ = build(store, ToyConfig(seed=2))
    build(store, ToyConfig(seed=3))
    toy_run(store, "old", {"sft": old})
    toy_run(store, "new", {"grpo": child})
    return store


def _fingerprint(store, seed):
    return build(store, ToyConfig(seed=seed))[0].record.fingerprint


def test_gc_keeps_the_newest_runs_their_artifacts_and_inputs(store):
    old, orphan, parent = (_fingerprint(store, seed) for seed in (2, 3, 0))
    removed = gc(store, keep_runs=1, dry_run=False)
    assert _names(removed) == {old, orphan, "old"}
    sizes = {one.path.name: one.size_bytes for one in removed}
    assert sizes[orphan] > 3200
    left = {path.name for path in store.artifacts()}
    assert len(left) == 2 and parent in left
    assert [run.run_id for run in store.runs()] == ["new"]
    assert isinstance(store.lookup("toy", parent), Hit)
    assert not list((store.root / ".trash").iterdir())


def test_gc_dry_run_names_the_same_and_removes_nothing(store):
    before = sorted(store.root.rglob("*"))
    named = _names(gc(store, keep_runs=1, dry_run=True))
    assert sorted(store.root.rglob("*")) == before
    assert _names(gc(store, keep_runs=1, dry_run=False)) == named


def test_gc_keeping_more_runs_than_there_are_removes_only_orphans(store):
    assert _names(gc(store, keep_runs=9, dry_run=True)) == {_fingerprint(store, 3)}


def test_gc_keeps_a_run_in_progress_and_forgets_one_that_died_long_ago(store):
    waiting, _ = build(store, ToyConfig(seed=3))
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    toy_run(store, "live", {"sft": waiting}, state="running", started_at=now)
    assert waiting.record.fingerprint not in _names(gc(store, keep_runs=0, dry_run=True))
    toy_run(store, "live", {"sft": waiting}, state="running", started_at="2024-01-01T00:00:00+00:00")
    assert waiting.record.fingerprint in _names(gc(store, keep_runs=0, dry_run=True))
    with store.lock("toy", waiting.record.fingerprint):
        assert waiting.record.fingerprint not in _names(gc(store, keep_runs=0, dry_run=True))


def test_gc_removes_interrupted_builds_only_when_old_and_not_locked(store, monkeypatch):
    staging = store.staging("toy", "f" * 20)
    assert staging.name not in _names(gc(store, keep_runs=9, dry_run=True))
    os.utime(staging, (0, 0))
    in_8_days = time.time() + 8 * DAY_S
    monkeypatch.setattr(gc_module.time, "time", lambda: in_8_days)
    assert staging.name not in _names(gc(store, keep_runs=9, dry_run=True, staging_days=9.0))
    with store.lock("toy", "f" * 20):
        assert staging.name not in _names(gc(store, keep_runs=9, dry_run=False))
    assert staging.name in _names(gc(store, keep_runs=9, dry_run=False))
    assert not staging.exists()


def test_gc_removes_damaged_and_replaced_artifacts_when_old(store, monkeypatch):
    hit, _ = build(store, ToyConfig(seed=0))
    (hit.path / "metrics.json").unlink()
    build(store, ToyConfig(seed=0))
    aside = next((store.root / ".damaged").iterdir())
    assert aside.name not in _names(gc(store, keep_runs=9, dry_run=True))
    in_8_days = time.time() + 8 * DAY_S
    monkeypatch.setattr(gc_module.time, "time", lambda: in_8_days)
    assert aside.name in _names(gc(store, keep_runs=9, dry_run=False))
    assert not aside.exists()


def test_gc_with_a_damaged_run_file_refuses_and_removes_nothing(store):
    (store.root / "runs" / "old" / "run.json").write_text('{"schema": 1, ')
    before = sorted(store.root.rglob("*"))
    with pytest.raises(UserError, match=r"old/run\.json is damaged .*what this run used is unknown"):
        gc(store, keep_runs=1, dry_run=False)
    assert sorted(store.root.rglob("*")) == before
