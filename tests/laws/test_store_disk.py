"""Laws: a full disk or a read-only store is one paragraph that says what to do; nothing half-written is believed."""

import os
import subprocess

import pytest
from small_disk import fill, small_disk
from store_toy import ToyConfig, build

from tasks.core.errors import UserError
from tasks.core.store import Hit, Store, check_writable

NOBODY = 65534


@pytest.fixture
def disk(tmp_path):
    """A real file system of 256 kB."""
    with small_disk(tmp_path / "disk", "256k") as place:
        yield place


def test_store_full_disk_while_publishing_is_a_user_error_and_the_next_build_resumes(disk, tmp_path, monkeypatch):
    store, config = Store(disk / "store"), ToyConfig(seed=0, log=str(tmp_path / "log"))
    monkeypatch.setattr("tasks.core.store.contents.sync_directories", lambda directory: fill(disk))
    with pytest.raises(UserError) as failure:
        build(store, config)
    message = str(failure.value)
    assert f"no space left: the store {store.root} has 0.0 MB free" in message
    assert "r1 gc" in message and "--store DIR or R1_STORE=DIR" in message
    assert list(store.artifacts()) == []
    monkeypatch.undo()
    (disk / "filler").unlink()
    hit, _ = build(store, config)
    assert isinstance(store.lookup("toy", hit.record.fingerprint), Hit)
    assert (tmp_path / "log").read_text() == "0\n3\n"
    assert set(hit.record.files) == {"config.json", "metrics.json", "model/weights.bin"}


def test_store_full_disk_at_the_start_is_a_user_error(disk):
    store = Store(disk / "store")
    subprocess.run(["mount", "-o", "remount,nr_inodes=2", disk], check=True)
    with pytest.raises(UserError, match=r"no space left for .*: the store"):
        build(store, ToyConfig(seed=0))
    with pytest.raises(UserError, match=r"no space left for .*: the store"):
        check_writable(store.root)


def test_store_read_only_hits_are_used_and_a_build_is_a_user_error(disk):
    store = Store(disk / "store")
    built, _ = build(store, ToyConfig(seed=0))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert build(store, ToyConfig(seed=0)) == (built, "cached")
    for attempt in (lambda: build(store, ToyConfig(seed=1)), lambda: check_writable(store.root)):
        with pytest.raises(UserError) as failure:
            attempt()
        message = str(failure.value)
        assert f"cannot use the store {store.root}: Read-only file system for {store.root}" in message
        assert "--store DIR or R1_STORE=DIR" in message


def test_store_below_a_file_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Not a directory.*R1_STORE"):
        build(Store(tmp_path / "file" / "store"), ToyConfig(seed=0))


def test_store_without_permission_is_a_user_error(tmp_path):
    store = Store(tmp_path / "store")
    build(store, ToyConfig(seed=0))
    (store.root / ".locks").chmod(0o555)
    me = os.geteuid()
    try:
        if me == 0:
            os.seteuid(NOBODY)  # permissions do not bind root
        with pytest.raises(UserError, match=r"Permission denied.*R1_STORE"):
            build(store, ToyConfig(seed=1))
    finally:
        os.seteuid(me)
