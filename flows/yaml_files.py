"""Finds a YAML file by its path, or by its name in a folder of the project's."""

import difflib
from pathlib import Path

from tasks.core.errors import UserError


def list_yaml(folder: Path) -> list[Path]:
    """The YAML files of `folder`, by name."""
    return sorted(folder.glob("*.yaml"))


def find_yaml(ref: str | Path, folder: Path, subject: str, advice: str) -> Path:
    """The file at the path `ref`, else the one in `folder` that `ref` names, with .yaml or without.

    Raises UserError that begins with `subject`, ends with `advice` and the names in `folder`, and says what is wrong
    in between.
    """
    given = Path(ref)
    try:
        named = folder / f"{given.name.removesuffix('.yaml')}.yaml"
        for candidate in (given.expanduser(), *([named] if given.name == str(given) else [])):
            if candidate.is_file():
                return candidate
        what = "is a directory, not a YAML file" if given.is_dir() else "does not exist"
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL in it, or the home of nobody
        what = f"cannot be a file ({error})"
    names = [path.stem for path in list_yaml(folder)]
    near = difflib.get_close_matches(given.stem, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UserError(f"{subject} {what}.{hint} {advice} {', '.join(names) or 'none yet'}.")
