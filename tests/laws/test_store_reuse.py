"""Laws: what was built is reused; what was begun is resumed; only what decides the content is identity."""

import dataclasses
import json

import pytest
from store_toy import TOY, ToyConfig, build, toy_identity

from tasks.core.errors import UserError
from tasks.core.store import Hit, Miss, Store, fingerprint_of, identity_of, store_root


def _fingerprint(config, inputs=None):
    return fingerprint_of(toy_identity(config, inputs))


def test_store_second_build_is_a_hit_and_runs_nothing(tmp_path):
    store, log = Store(tmp_path / "store"), tmp_path / "log"
    first, reason = build(store, ToyConfig(seed=0, log=str(log)))
    assert reason == "not built yet"
    second, reason = build(store, ToyConfig(seed=0, log=str(log)))
    assert (reason, second) == ("cached", first)
    assert log.read_text() == "0\n"


def test_store_published_artifact_has_the_files_and_no_scratch(tmp_path):
    hit, _ = build(Store(tmp_path), ToyConfig(seed=0))
    assert hit.path == tmp_path / "toy" / hit.record.fingerprint
    assert set(hit.record.files) == {"config.json", "metrics.json", "model/weights.bin"}
    assert hit.record.files["model/weights.bin"].size == 3200
    assert hit.record.metrics == json.loads((hit.path / "metrics.json").read_text())
    assert sorted(path.name for path in hit.path.iterdir()) == ["config.json", "metrics.json", "model", "record.json"]
    assert not list((tmp_path / ".staging").iterdir()) and not list((tmp_path / ".locks").iterdir())


def test_store_interrupted_build_keeps_staging_and_resumes_inside(tmp_path):
    store, log = Store(tmp_path / "store"), tmp_path / "log"
    with pytest.raises(RuntimeError, match="told to fail"):
        build(store, ToyConfig(seed=0, fail_at=2, log=str(log)))
    assert len(list((tmp_path / "store" / ".staging").iterdir())) == 1
    resumed, _ = build(store, ToyConfig(seed=0, log=str(log)))
    assert log.read_text() == "0\n2\n"
    straight, _ = build(Store(tmp_path / "other"), ToyConfig(seed=0))
    assert resumed.record.files == straight.record.files


def test_store_rebuild_starts_afresh_and_sets_the_old_one_aside(tmp_path):
    store, log = Store(tmp_path / "store"), tmp_path / "log"
    build(store, ToyConfig(seed=0))
    _, reason = build(store, ToyConfig(seed=0, log=str(log)), rebuild=True)
    assert (reason, log.read_text()) == ("rebuilt", "0\n")
    assert len(list((store.root / ".replaced").iterdir())) == 1
    assert build(store, ToyConfig(seed=0))[1] == "cached"


@pytest.mark.parametrize("change", [{"seed": 1}, {"num_steps": 4}, {"scale": 1.5}])
def test_fingerprint_scientific_field_changes_it(change):
    assert _fingerprint(ToyConfig(**{"seed": 0} | change)) != _fingerprint(ToyConfig(seed=0))


@pytest.mark.parametrize("change", [{"log": "/elsewhere/log"}, {"step_s": 9.0}, {"fail_at": 1}])
def test_fingerprint_operational_field_or_path_does_not_change_it(change):
    assert _fingerprint(ToyConfig(seed=0, **change)) == _fingerprint(ToyConfig(seed=0))


def test_fingerprint_store_location_and_working_directory_do_not_change_it(tmp_path, monkeypatch):
    first, _ = build(Store(tmp_path / "a"), ToyConfig(seed=0))
    monkeypatch.chdir(tmp_path)
    second, _ = build(Store(tmp_path / "b"), ToyConfig(seed=0))
    assert first.record.fingerprint == second.record.fingerprint


def test_fingerprint_input_version_and_library_change_it(monkeypatch):
    base = _fingerprint(ToyConfig(seed=0), {"model": "a" * 20})
    assert _fingerprint(ToyConfig(seed=0), {"model": "b" * 20}) != base
    bumped = identity_of(dataclasses.replace(TOY, version=2), ToyConfig(seed=0), {"model": "a" * 20})
    assert fingerprint_of(bumped) != base
    other = identity_of(dataclasses.replace(TOY, libraries=("pytest",)), ToyConfig(seed=0), {"model": "a" * 20})
    assert other["libraries"] == {"pytest": pytest.__version__}
    assert fingerprint_of(other) != base


def test_identity_missing_library_is_refused_by_name():
    with pytest.raises(UserError, match="stage toy needs the package 'no-such-library'"):
        identity_of(dataclasses.replace(TOY, libraries=("no-such-library",)), ToyConfig(seed=0), {})


def test_store_code_drift_is_seen_and_the_hit_is_kept(tmp_path):
    hit, _ = build(Store(tmp_path), ToyConfig(seed=0))
    assert not hit.has_drifted(hit.record.code)
    assert hit.has_drifted("0" * 64)
    assert isinstance(Store(tmp_path).lookup("toy", hit.record.fingerprint), Hit)


def test_store_lookup_in_a_store_that_does_not_exist_is_a_miss(tmp_path):
    assert Store(tmp_path / "none").lookup("toy", "0" * 20) == Miss("not built yet")
    assert not (tmp_path / "none").exists()


def test_store_root_is_the_option_then_the_variable_then_artifacts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R1_STORE", raising=False)
    assert store_root() == tmp_path / "artifacts"
    monkeypatch.setenv("R1_STORE", "/big/disk")
    assert str(store_root()) == "/big/disk"
    assert store_root("here") == tmp_path / "here"
