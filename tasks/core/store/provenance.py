"""Where an artifact came from: commit, command, host, versions, hardware. Never the environment variables."""

import functools
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.core.store.redact import redact_argv

PROJECT_DIR = Path(__file__).resolve().parents[3]
PACKAGES = (
    *("r1flow", "torch", "transformers", "trl", "datasets", "accelerate", "deepspeed", "peft", "vllm"),
    *("bitsandbytes", "distilabel", "lighteval", "math-verify", "prefect", "swanlab", "pyarrow", "numpy", "pydantic"),
)
COMMAND_TIMEOUT_S = 10.0


def collect_provenance(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """What a record says of this process; call it where the stage runs, so that the hardware is the right one.

    Keys: git_commit, git_dirty (both None outside a checkout), argv (secrets redacted), host, python, packages
    {distribution: version, those installed}, hardware {cpu, num_cpus, mem_gb, gpus}.
    """
    commit, dirty = git_state(PROJECT_DIR)
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "argv": redact_argv(sys.argv if argv is None else argv),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "packages": dict(_package_versions()),
        "hardware": hardware(),
    }


def git_state(directory: Path) -> tuple[str | None, bool | None]:
    """(commit, whether tracked or new files differ from it) of the checkout whose top is `directory`.

    (None, None) when there is none: another project's checkout that merely contains `directory` does not count.
    """
    top = _output("git", "-C", str(directory), "rev-parse", "--show-toplevel", "HEAD")
    if top is None or Path(top.splitlines()[0]).resolve() != directory.resolve():
        return None, None
    changes = _output("git", "--no-optional-locks", "-C", str(directory), "status", "--porcelain")
    return top.splitlines()[1], None if changes is None else bool(changes)


@functools.cache
def _package_versions() -> tuple[tuple[str, str], ...]:
    from importlib import metadata

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return tuple(versions.items())


def hardware() -> dict[str, Any]:
    """{"cpu": model, "num_cpus": usable by this process, "mem_gb": of the machine, "gpus": [one line each]}."""
    mem_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    num_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu_model(), "num_cpus": num_cpus, "mem_gb": round(mem_gb, 1), "gpus": list(_gpus())}


@functools.cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@functools.cache
def _gpus() -> tuple[str, ...]:
    """ "name, memory, driver version" of each NVIDIA GPU that this machine shows."""
    if shutil.which("nvidia-smi") is None:
        return ()
    table = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader") or ""
    return tuple(line.strip() for line in table.splitlines() if line.strip())


def _output(*command: str) -> str | None:
    """Standard output of a command, None when it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
