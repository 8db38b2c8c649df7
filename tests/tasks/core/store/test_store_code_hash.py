import gc
import importlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.core.store.code_hash import _read_module, hash_module

STAGE = "from tasks.core.outer import f\n\ndef run(config):\n    return f(config) + 1\n"


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A stage `toy_stage` → core modules outer → (inside a function) inner.deep; `other` is not reached."""
    core = tmp_path / "core"
    (core / "inner").mkdir(parents=True)
    (core / "__init__.py").write_text("")
    (core / "outer.py").write_text("def f(x):\n    from tasks.core.inner.deep import g\n\n    return g(x)\n")
    (core / "inner" / "__init__.py").write_text("from . import names\n")
    (core / "inner" / "names.py").write_text("A = 1\n")
    (core / "inner" / "deep.py").write_text("def g(x):\n    return x\n")
    (core / "other.py").write_text("B = 2\n")
    (tmp_path / "toy_stage.py").write_text(STAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    # By its full name: the package has a function of that name too.
    monkeypatch.setattr(importlib.import_module("tasks.core.store.code_hash"), "_CORE_DIR", core)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["toy_stage", "core/outer", "core/inner/__init__", "core/inner/names", "core/inner/deep"]
)
def test_code_hash_changes_with_each_module_that_is_reached(sources, name):
    before = hash_module("toy_stage")
    with (sources / f"{name}.py").open("a") as file:
        file.write("C = 3\n")
    assert hash_module("toy_stage") != before


def test_code_hash_ignores_modules_that_are_not_reached(sources):
    before = hash_module("toy_stage")
    (sources / "core" / "other.py").write_text("B = 3\n")
    assert hash_module("toy_stage") == before


def test_code_hash_ignores_comments_docstrings_and_layout(sources):
    before = hash_module("toy_stage")
    same = STAGE.replace("config):\n", 'config):  # why\n    """What."""\n').replace(
        "f(config) + 1", "(f(config)\n    + 1)"
    )
    (sources / "toy_stage.py").write_text('"""Module."""\n\n' + same)
    assert hash_module("toy_stage") == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1", "x = True"),
        ("x = 1", "x = 1.0"),
        ("x = 'a'", "x = b'a'"),
        ("def f(a, *, b=None): ...", "def f(a, *, b): ..."),
        ("x = {**a, 'b': 1}", "x = {'b': 1, **a}"),
        ("x = a - b", "x = a + b"),
        ("x = None", "x = ''"),
    ],
)
def test_code_hash_small_changes_of_meaning_show(sources, before, after):
    (sources / "toy_stage.py").write_text(before + "\n")
    first = hash_module("toy_stage")
    (sources / "toy_stage.py").write_text(after + "  # as long as it takes\n")
    assert hash_module("toy_stage") != first


def test_code_hash_module_without_source_is_a_bug():
    with pytest.raises(ValueError, match="module sys has no source file"):
        hash_module("sys")


def test_code_hash_is_the_same_in_another_process():
    code = "from tasks.core.store.code_hash import hash_module; print(hash_module('tasks.core.main'))"
    project = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hash_module("tasks.core.main")


def test_code_hash_of_two_stages_in_two_threads_is_that_of_one() -> None:
    """Threads change whenever the garbage collector runs; unprotected, Python 3.11.7 raises SystemError at once."""

    def hashes() -> list[str]:
        _read_module.cache_clear()
        return [hash_module(name) for name in ("tasks.train_grpo", "tasks.evaluate")]

    def yield_to_others(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    expected, threshold = hashes(), gc.get_threshold()
    gc.callbacks.append(yield_to_others)
    gc.set_threshold(200)
    try:
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda _: hashes(), range(8)))
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(yield_to_others)
    assert found == [expected] * 8
