"""Laws 1 to 3: imports point one way, a stage stands alone, and planning loads nothing heavy."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.registry import STAGES

ROOT = Path(__file__).parents[2]
ROOMS = {
    "flows": {"flows", "tasks", "slurm"},
    "tasks": {"tasks"},
    "slurm": {"slurm"},
}
HEAVY = frozenset(
    {
        "torch",
        "trl",
        "transformers",
        "datasets",
        "distilabel",
        "vllm",
        "lighteval",
        "matplotlib",
        "pandas",
        "pyarrow",
        "accelerate",
        "deepspeed",
        "peft",
        "bitsandbytes",
        "swanlab",
        "sklearn",
        "scipy",
    }
)
NEVER_IN_A_PLAN = ("torch", "trl", "vllm", "datasets", "distilabel", "transformers", "pandas", "pyarrow")
WRITTEN_STAGES = tuple(name for name in STAGES if (ROOT / "tasks" / f"{name}.py").is_file())


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path, *, module_level_only: bool = False) -> Iterator[str]:
    """The dotted name of every module that the file imports, relative imports made absolute."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in _runs_at_import(tree) if module_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _runs_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below that run when the module is imported: not those in functions, nor under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        is_for_types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not is_for_types:
            yield child
            yield from _runs_at_import(child)


def room(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("name", ROOMS)
def test_room_imports_point_one_way(name: str) -> None:
    files = sources(name)
    assert files
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in imports(path)
        if room(module) in {*ROOMS, "tests"} - ROOMS[name]
    ]
    assert wrong == []


def test_tasks_core_imports_nothing_of_the_project_but_itself() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources("tasks/core")
        for module in imports(path)
        if room(module) in ROOMS and module != "tasks" and not f"{module}.".startswith("tasks.core.")
    ]
    assert wrong == []


def test_stage_never_imports_a_stage() -> None:
    wrong = [
        f"tasks/{name}.py imports {module}"
        for name in WRITTEN_STAGES
        for module in imports(ROOT / "tasks" / f"{name}.py")
        if room(module) == "tasks" and module != "tasks" and not f"{module}.".startswith("tasks.core.")
    ]
    assert wrong == []


def test_tasks_hold_only_the_registered_stages() -> None:
    files = {path.stem for path in (ROOT / "tasks").glob("*.py")} - {"__init__"}
    assert files == set(STAGES)


def test_tasks_import_neither_prefect_nor_slurm() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources("tasks")
        for module in imports(path)
        if room(module) in ("prefect", "slurm", "submitit")
    ]
    assert wrong == []


@pytest.mark.parametrize("name", WRITTEN_STAGES)
def test_stage_imports_nothing_heavy_at_module_level(name: str) -> None:
    modules = {room(module) for module in imports(ROOT / "tasks" / f"{name}.py", module_level_only=True)}
    assert modules & HEAVY == set()


def test_yaml_is_read_in_one_place_only() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for path in sources(*ROOMS)
        for module in imports(path)
        if room(module) in ("yaml", "ruamel")
    }
    assert readers == {"flows/recipe_yaml.py"}


def test_only_recipes_profiles_launch_configs_and_targets_are_yaml_files_that_are_read() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for path in sources(*ROOMS)
        for module in imports(path)
        if module == "flows.recipe_yaml.read_document"
    }
    assert readers == {"flows/recipe.py", "flows/profile.py", "flows/accelerate.py", "flows/targets.py"}


def loaded_by(statement: str) -> set[str]:
    """Which of NEVER_IN_A_PLAN a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {NEVER_IN_A_PLAN} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_import_of_flows_and_every_stage_loads_nothing_heavy() -> None:
    modules = ["flows", "flows.recipe", "flows.profile", *(f"tasks.{name}" for name in WRITTEN_STAGES)]
    assert loaded_by(f"import {', '.join(modules)}") == set()


def test_reading_every_recipe_loads_nothing_heavy() -> None:
    statement = "from flows.recipe import list_recipes, load_recipe\nfor path in list_recipes(): load_recipe(path)"
    assert loaded_by(statement) == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch", {"torch"}),
        ("try:\n    import torch\nexcept ImportError:\n    pass", {"torch"}),
        ("class A:\n    from torch import nn", {"torch", "torch.nn"}),
        ("def f():\n    import torch", set()),
        ("if TYPE_CHECKING:\n    import torch", set()),
    ],
)
def test_import_scan_sees_what_runs_at_import(
    tmp_path: Path, source: str, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "x.py").write_text(source)
    assert set(imports(tmp_path / "x.py", module_level_only=True)) == expected
