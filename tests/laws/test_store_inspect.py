"""`r1 ls | show | explain | verify | gc`, and what a REF may be."""

import shutil
import subprocess
import sys

import pytest
from store_toy import PROJECT_DIR, ToyConfig, build, toy_run

from flows import inspect
from tasks.core.errors import UserError
from tasks.core.store import Store
from tasks.core.store.explain import explain
from tasks.core.store.refs import find, find_artifact


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def _two_chains(store, **change):
    """Two chains base → tuned; the second's base has `change`."""
    chains = []
    for base_config in (ToyConfig(seed=0), ToyConfig(**{"seed": 0} | change)):
        base, _ = build(store, base_config)
        tuned, _ = build(store, ToyConfig(seed=5), {"model": base.record.fingerprint})
        chains.append({"base": base, "tuned": tuned})
    return chains


def test_explain_changed_field_is_named_with_both_values(store):
    before, after = (build(store, ToyConfig(seed=seed, scale=scale))[0] for seed, scale in ((0, 1.0), (1, 1.5)))
    changes = [str(change) for change in explain(store, before.record, after.record)]
    assert changes == ["config.seed: 0 → 1", "config.scale: 1.0 → 1.5"]


def test_explain_changed_input_is_followed_to_the_cause(store):
    first, second = _two_chains(store, num_steps=4)
    changes = [str(change) for change in explain(store, first["tuned"].record, second["tuned"].record)]
    assert changes == ["model → toy: config.num_steps: 3 → 4"]


def test_explain_input_that_is_gone_gives_the_fingerprints(store):
    first, second = _two_chains(store, num_steps=4)
    shutil.rmtree(first["base"].path)
    old, new = first["base"].record.fingerprint, second["base"].record.fingerprint
    changes = [str(change) for change in explain(store, first["tuned"].record, second["tuned"].record)]
    assert changes == [f"inputs.model: {old} (no longer in the store) → toy/{new}"]


def test_explain_input_that_only_one_has_is_absent_in_the_other(store):
    base, _ = build(store, ToyConfig(seed=0))
    tuned, _ = build(store, ToyConfig(seed=0), {"model": base.record.fingerprint})
    changes = [str(change) for change in explain(store, base.record, tuned.record)]
    assert changes == [f"inputs.model: (absent) → toy/{base.record.fingerprint}"]


def test_inspect_explain_of_two_runs_goes_stage_by_stage(store, capsys):
    first, second = _two_chains(store, scale=2.0)
    same, _ = build(store, ToyConfig(seed=8))
    toy_run(store, "run-a", first | {"data": same})
    toy_run(store, "run-b", second | {"data": same, "extra": same})
    inspect.explain(store, "run-a", "run-b")
    printed = capsys.readouterr().out
    assert "  config.scale: 1.0 → 2.0\n" in printed
    assert "  model → toy: config.scale: 1.0 → 2.0\n" in printed
    assert f"data: the same artifact toy/{same.record.fingerprint}\n" in printed
    assert "extra: only in run run-b\n" in printed


def test_find_accepts_prefix_stage_prefix_run_and_stage_of_run(store):
    hit, _ = build(store, ToyConfig(seed=0))
    fingerprint = hit.record.fingerprint
    run = toy_run(store, "quick-1", {"sft": hit})
    for ref in (fingerprint, fingerprint[:5], f"toy/{fingerprint[:5]}", "quick-1:sft", "quick:sft", "latest:sft"):
        assert find(store, ref) == hit.path
    assert find(store, "quick-1") == find(store, "latest") == run


def test_find_ambiguous_prefix_lists_the_candidates(store):
    hits = [build(store, ToyConfig(seed=seed))[0] for seed in range(2)]
    with pytest.raises(UserError) as failure:
        find(store, "toy/")
    assert "could be any of 2" in str(failure.value)
    assert all(f"toy/{hit.record.fingerprint}" in str(failure.value) for hit in hits)


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("zzzz", "'zzzz' names nothing in "),
        ("no-run:sft", "'no-run:sft' names nothing in "),
        ("run-1:grpo", "run run-1 has no stage 'grpo'; its stages are: sft, gone."),
        ("run-1:gone", "stage 'gone' of run run-1 .* has no artifact toy/"),
        ("run-1", "'run-1' is a run; name one of its stages: run-1:sft, run-1:gone."),
    ],
)
def test_find_artifact_of_a_wrong_ref_says_what_is_allowed(store, ref, says):
    hit, _ = build(store, ToyConfig(seed=0))
    gone, _ = build(store, ToyConfig(seed=1))
    shutil.rmtree(gone.path)
    toy_run(store, "run-1", {"sft": hit, "gone": gone})
    with pytest.raises(UserError, match=says):
        find_artifact(store, ref)


def test_inspect_ls_shows_artifacts_with_headline_runs_and_damage(store, capsys):
    inspect.list_artifacts(store)
    assert "No artifact in" in capsys.readouterr().out
    hit, _ = build(store, ToyConfig(seed=0))
    spoilt, _ = build(store, ToyConfig(seed=1))
    (spoilt.path / "record.json").write_text("{")
    toy_run(store, "run-1", {"sft": hit})
    (store.root / "runs" / "torn").mkdir()
    (store.root / "runs" / "torn" / "run.json").write_text("{")
    inspect.list_artifacts(store)
    lines = capsys.readouterr().out.splitlines()
    mine = next(line for line in lines if hit.record.fingerprint in line)
    assert f"accuracy {hit.record.metrics['accuracy']:.4g}" in mine and "3.3 kB" in mine and "run-1" in mine
    assert any(spoilt.record.fingerprint in line and "damaged: record.json is not JSON" in line for line in lines)
    assert any(line.startswith("note: ") and "torn/run.json is damaged" in line for line in lines)


def test_inspect_show_prints_config_metrics_files_and_origin(store, capsys):
    hit, _ = build(store, ToyConfig(seed=41))
    toy_run(store, "run-1", {"sft": hit}, overrides=["sft.seed=41"])
    inspect.show(store, "latest:sft")
    printed = capsys.readouterr().out
    for text in ("whole", f"path      {hit.path}", "  seed: 41", "  model/weights.bin: 3.2 kB", "used by   run-1"):
        assert text in printed
    inspect.show(store, "run-1")
    printed = capsys.readouterr().out
    assert "overrides: sft.seed=41" in printed and hit.record.fingerprint in printed


def test_inspect_verify_returns_one_and_names_the_file_when_damaged(store, capsys):
    whole, _ = build(store, ToyConfig(seed=0))
    spoilt, _ = build(store, ToyConfig(seed=1))
    (spoilt.path / "metrics.json").write_text("{}")
    assert inspect.verify(store, [whole.record.fingerprint]) == 0
    capsys.readouterr()
    assert inspect.verify(store) == 1
    printed = capsys.readouterr().out
    assert f"whole    toy/{whole.record.fingerprint}" in printed
    assert f"damaged  toy/{spoilt.record.fingerprint}\n         metrics.json has 2 bytes, not " in printed
    assert "2 artifacts checked, 1 damaged." in printed


def test_inspect_gc_prints_what_it_frees(store, capsys):
    hit, _ = build(store, ToyConfig(seed=0))
    inspect.collect_garbage(store, keep_runs=3, dry_run=True)
    printed = capsys.readouterr().out
    assert f"toy/{hit.record.fingerprint}  (no kept run uses it)" in printed and "would free" in printed
    inspect.collect_garbage(store, keep_runs=3, dry_run=False)
    assert "freed" in capsys.readouterr().out and not hit.path.exists()


def test_inspect_import_loads_neither_rich_nor_anything_heavy():
    code = "import sys, flows.inspect; print([name for name in sys.argv[1:] if name in sys.modules])"
    heavy = ["rich", "torch", "transformers", "trl", "datasets", "distilabel", "prefect", "pandas", "pyarrow"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], cwd=PROJECT_DIR, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n")
