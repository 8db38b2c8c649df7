"""One hash for the code of a stage: its module and the `tasks.core` modules that it imports, at any depth.

Comments, docstrings and layout do not count. The scan is static: it sees imports inside functions, and does not see
`importlib.import_module`, templates or data files; for those, bump the stage's VERSION.
"""

import ast
import functools
import hashlib
import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path

import tasks.core
from tasks.core.stage import Stage

_CORE = "tasks.core"
_CORE_DIR = Path(tasks.core.__file__).parent
_PARSER = threading.Lock()
"""Python 3.11 before 3.11.8 counts the depth of all threads' trees in one number (CPython issue 106905), and
then a SystemError comes of two stages that start in the same moment."""


def code_hash(stage: Stage) -> str:
    """sha256 (64 hex digits) over the syntax trees of the stage's code."""
    return hash_module(stage.run.__module__)


def hash_module(name: str) -> str:
    """sha256 over the syntax trees of the module `name` and of every `tasks.core` module that it reaches."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None or not spec.has_location:
        raise ValueError(f"module {name} has no source file")
    digests: dict[str, str] = {}
    waiting = {name: Path(spec.origin)}
    while waiting:
        module, path = waiting.popitem()
        stat = path.stat()
        digests[module], imported = _read_module(module, path, stat.st_mtime_ns, stat.st_size)
        for other in imported:
            if other not in digests and (found := _core_file(other)):
                waiting[other] = found
    text = "".join(f"{module} {digest}\n" for module, digest in sorted(digests.items()))
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _read_module(name: str, path: Path, mtime_ns: int, size: int) -> tuple[str, tuple[str, ...]]:
    """Digest of one file and the names below `tasks.core` that it may import; cached until the file changes."""
    with _PARSER:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    digest = hashlib.sha256("".join(_dump(tree)).encode("utf-8", "surrogatepass")).hexdigest()
    return digest, tuple(sorted(_imported_names(tree, package)))


def _imported_names(tree: ast.Module, package: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names.update({base}, (f"{base}.{alias.name}" for alias in node.names))
    # Importing a.b.c runs a and a.b too.
    parents = {".".join(name.split(".")[:end]) for name in names for end in range(2, name.count(".") + 1)}
    return {name for name in names | parents if name == _CORE or name.startswith(f"{_CORE}.")}


def _core_file(name: str) -> Path | None:
    """The source of a module below `tasks.core`; None when `name` is a function or class of its parent."""
    stem = _CORE_DIR.joinpath(*name.split(".")[2:])
    return next((path for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.is_file()), None)


def _dump(node: object) -> Iterator[str]:
    """Text of a syntax tree without positions and docstrings.

    Not `ast.dump`: that text changes between Python versions (3.12 adds empty `type_params`, 3.13 leaves empty fields
    out), and every artifact would then seem to come from other code.
    """
    if isinstance(node, ast.Constant):
        yield f"{type(node.value).__name__}:{node.value!r};"
    elif isinstance(node, ast.AST):
        yield f"{type(node).__name__}("
        for field, value in ast.iter_fields(node):
            if value is not None and value != []:
                yield f"{field}="
                yield from _dump(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            if not _is_docstring(item):
                yield from _dump(item)
        yield "]"
    else:
        yield f"{node!r};"


def _is_docstring(node: object) -> bool:
    """A bare string is a docstring wherever it stands: configs document each field with one."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
