"""The fields of TRL's config classes, read from the installed source without importing trl, transformers or torch.

Importing TRL takes many seconds; a recipe has to be checked in a fraction of one. The configs are dataclasses, so
their fields stand in the source as annotated names: GRPOConfig and SFTConfig -> _BaseConfig -> TrainingArguments.
Reading the files takes about 20 ms and is done once a process. A test compares the result with the real thing.
"""

import ast
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError

CONFIG_FILES = {"GRPOConfig": "trl/trainer/grpo_config.py", "SFTConfig": "trl/trainer/sft_config.py"}
# transformers re-exports lazily: its __init__ does not say in a readable way where a name lives.
EXPORTS = {"TrainingArguments": "transformers/training_args.py"}
# TRL takes more than the annotation says: GRPOConfig.__post_init__ turns True into "group" and False into "none".
ALSO_BOOL = frozenset({"scale_rewards"})


@dataclass(frozen=True)
class TrlKey:
    """One field of a TRL config: its annotation as written, and the spellings it allows when they are listed.

    `values` comes from the field's `choices` or from the enum in its annotation; None when any value will do.
    `also_bool` is true of fields that are annotated `str` and take a bare flag, such as `fsdp`.
    """

    name: str
    annotation: str
    values: tuple[Any, ...] | None = None
    also_bool: bool = False

    def accepts(self, value: Any) -> bool:
        """Whether `value`, as read from YAML, fits. A bool is no int; an int is a float."""
        if self.also_bool and isinstance(value, bool):
            return True
        annotation = ast.parse(self.annotation, mode="eval").body
        if self.values is not None:
            may_be_none = any(isinstance(node, ast.Constant) and node.value is None for node in ast.walk(annotation))
            return value in self.values if isinstance(value, str) else value is None and may_be_none
        return _fits(annotation, value)

    @property
    def wanted(self) -> str:
        """What the field takes, in words for an error message."""
        return "one of " + ", ".join(map(str, self.values)) if self.values else self.annotation


@cache
def trl_keys(config: str) -> Mapping[str, TrlKey]:
    """Every field of TRL's `config` ("GRPOConfig" or "SFTConfig"), the inherited ones included.

    Raises UserError when TRL or transformers is missing or no longer laid out as this reader expects.
    """
    return _read_class(_installed(CONFIG_FILES[config]), config)


PLAIN: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "list": lambda value: isinstance(value, list),
    "dict": lambda value: isinstance(value, dict),
}


def _fits(annotation: ast.expr, value: Any) -> bool:
    """Whether `value` fits a plain annotation; one that this does not understand accepts everything."""
    match annotation:
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _fits(left, value) or _fits(right, value)
        case ast.Constant(value=None):
            return value is None
        case ast.Name(id=name) if name in PLAIN:
            return PLAIN[name](value)
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return isinstance(value, list) and all(_fits(item, element) for element in value)
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[_, item])):
            return isinstance(value, dict) and all(_fits(item, element) for element in value.values())
        case ast.Subscript(value=ast.Name(id="Literal"), slice=allowed):
            literals = ast.literal_eval(allowed)
            return any(value is one or (type(value) is type(one) and value == one) for one in _as_tuple(literals))
        case _:
            return True


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _installed(file: str) -> Path:
    """The path of `<package>/<file>` in the environment; find_spec on a top-level package does not import it."""
    package, _, inside = file.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"{package} is not installed, so a recipe's training keys cannot be checked: run `make env`.")
    path = Path(spec.origin).parent / inside
    if not path.is_file():
        raise UserError(f"{path} does not exist: this version of {package} is not the one in constraints.txt.")
    return path


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _read_class(path: Path, name: str) -> dict[str, TrlKey]:
    """The dataclass fields of class `name` in the file, inherited ones first, later ones replacing earlier ones."""
    definition = _find_class(path, name)
    if definition is None:
        raise UserError(f"{path} has no class {name}: this version of TRL is not the one in constraints.txt.")
    keys: dict[str, TrlKey] = {}
    for base in definition.bases:
        if isinstance(base, ast.Name) and (home := _home_of(path, base.id)):
            keys |= _read_class(home, base.id)
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if not ast.unparse(node.annotation).startswith("ClassVar"):
                keys[node.target.id] = _read_field(path, node.target.id, node)
    return keys


def _read_field(path: Path, name: str, node: ast.AnnAssign) -> TrlKey:
    metadata = _metadata(node.value)
    values = metadata.get("choices") or _enum_values(path, node.annotation)
    also_bool = metadata.get("const") is True or name in ALSO_BOOL
    return TrlKey(name, ast.unparse(node.annotation), tuple(values) if values else None, also_bool)


def _metadata(value: ast.expr | None) -> dict[str, Any]:
    """The literal entries of `field(metadata={...})`."""
    found: dict[str, Any] = {}
    for keyword in value.keywords if isinstance(value, ast.Call) else ():
        if keyword.arg == "metadata" and isinstance(keyword.value, ast.Dict):
            for key, entry in zip(keyword.value.keys, keyword.value.values, strict=True):
                is_plain = isinstance(entry, ast.List | ast.Constant)  # log_level computes its choices: any will do
                if isinstance(key, ast.Constant) and key.value in ("choices", "const") and is_plain:
                    found[key.value] = ast.literal_eval(entry)
    return found


def _enum_values(path: Path, annotation: ast.expr) -> list[str]:
    """The values of an enum in a union such as `OptimizerNames | str`; the `str` is only how it is spelt."""
    if isinstance(annotation, ast.BinOp):
        return _enum_values(path, annotation.left) + _enum_values(path, annotation.right)
    if not isinstance(annotation, ast.Name) or annotation.id in PLAIN:
        return []
    home = _home_of(path, annotation.id)
    definition = _find_class(home, annotation.id) if home else None
    if definition is None or not any(ast.unparse(base).endswith("Enum") for base in definition.bases):
        return []
    assigned = [node.value for node in definition.body if isinstance(node, ast.Assign)]
    return [value.value for value in assigned if isinstance(value, ast.Constant) and isinstance(value.value, str)]


def _find_class(path: Path, name: str) -> ast.ClassDef | None:
    classes = (node for node in _parsed(path).body if isinstance(node, ast.ClassDef))
    return next((node for node in classes if node.name == name), None)


def _home_of(path: Path, name: str) -> Path | None:
    """The file that defines the class which `path` calls `name`: itself, a sibling it imports from, or an EXPORT."""
    if _find_class(path, name):
        return path
    for node in _parsed(path).body:
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in node.names):
            if node.level == 1 and node.module:
                return path.parent / f"{node.module.replace('.', '/')}.py"
            return _installed(EXPORTS[name]) if name in EXPORTS else None
    return None
