"""Reads cluster profiles: YAML files in slurm/profiles/, or the user's own through a path or R1_CLUSTER."""

import os
import shutil
import subprocess
from pathlib import Path

from flows import registry
from flows.recipe_checks import checked
from flows.recipe_yaml import Document, read_document, shown
from flows.schema import Schema, model_schema
from flows.yaml_files import find_yaml, list_yaml
from slurm.job_options import JobOptions
from slurm.profile import Profile
from tasks.core.spelling import nearest

PROFILES = Path(__file__).parent.parent / "slurm" / "profiles"
VARIABLE = "R1_CLUSTER"
DEFAULT = "default"
_OWNER = "a cluster profile"


def load_profile(ref: str | None = None) -> Profile:
    """The profile that `ref` means: a path, or the name of one in slurm/profiles/.

    None: what R1_CLUSTER says, and without it slurm/profiles/default.yaml. Raises UserError that lists up to five
    mistakes, each with file and line.
    """
    path = _find(ref)
    document = read_document(path, noun="cluster profile", needs="name")
    misplaced = _misplaced(document)
    values = {key: value for key, value in document.values.items() if key not in misplaced}
    profile = checked(document, (), Profile, values, _schema(), _OWNER)
    _check_name(document, path)
    _check_stages(document)
    if profile and (text := _shell_mistake(profile.setup)):
        document.mistake(("setup",), f"is not valid bash: {text}")
    document.raise_mistakes()
    assert profile is not None
    return profile


def list_profiles() -> list[Path]:
    """The profiles of the project, by name."""
    return list_yaml(PROFILES)


def _find(ref: str | None) -> Path:
    """The file that `ref` means. Raises UserError that lists the profiles there are."""
    if ref is None and not os.environ.get(VARIABLE):
        return PROFILES / f"{DEFAULT}.yaml"
    given = Path(ref if ref is not None else os.environ[VARIABLE])
    origin = "" if ref is not None else f" (from {VARIABLE})"
    advice = "Give the path of a YAML file or the name of one in slurm/profiles:"
    return find_yaml(given, PROFILES, f"cluster profile {shown(given)}{origin}", advice)


def _schema() -> Schema:
    """The keys of a profile, those below each kind of stage included."""
    keys = dict(model_schema(Profile).keys)
    kinds = {kind: model_schema(JobOptions) for kind in registry.STAGES}
    return Schema(keys | {"stages": Schema(kinds, doc=keys["stages"].doc)})


def _misplaced(document: Document) -> set[str]:
    """The keys at the top level that belong below `job`."""
    found = (document.values.keys() & JobOptions.model_fields.keys()) - Profile.model_fields.keys()
    for key in found:
        document.mistake((key,), "stands too far left: put it below job:, gpu_job:, cpu_job: or stages:")
    return set(found)


def _check_name(document: Document, path: Path) -> None:
    name = document.values.get("name")
    if isinstance(name, str) and name != path.stem:
        document.mistake(("name",), f"is {name!r}, but the file is called {path.name}: make them equal")


def _check_stages(document: Document) -> None:
    stages = document.values.get("stages")
    for kind in stages if isinstance(stages, dict) else {}:
        if kind not in registry.STAGES:
            kinds = ", ".join(registry.STAGES)
            document.mistake(("stages", kind), f"is no kind of stage{nearest(kind, registry.STAGES)}; kinds: {kinds}")


def _shell_mistake(setup: str) -> str:
    """What bash says of the lines without running them; empty when they are well formed or there is no bash here."""
    bash = shutil.which("bash")
    if bash is None or not setup:
        return ""
    run = subprocess.run([bash, "-n"], input=setup, capture_output=True, text=True, errors="replace", timeout=60)
    said = run.stderr.strip().splitlines()  # a here-document without an end is only a warning
    return said[0].removeprefix(f"{bash}: ") if said else ""
