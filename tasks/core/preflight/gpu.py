"""The GPUs of this machine, by nvidia-smi: no torch, and no context that would take memory."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.core.preflight.finding import Finding
from tasks.core.preflight.training import Training

QUERY = ("--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits")
AMPERE = 8.0
"""The first compute capability with bfloat16 units."""
TIMEOUT_S = 10


@dataclass(frozen=True)
class Gpu:
    """`memory_gb` in GiB; `capability` is NVIDIA's compute capability, such as 8.0."""

    name: str
    memory_gb: float
    capability: float


def visible_gpus() -> list[Gpu]:
    """None where nvidia-smi is missing or fails. CUDA_VISIBLE_DEVICES is not applied."""
    if not (program := shutil.which("nvidia-smi")):
        return []
    try:
        done = subprocess.run([program, *QUERY], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
        rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
        return [Gpu(name, float(mib) / 1024, float(capability)) for name, mib, capability in rows]
    except (OSError, subprocess.SubprocessError, ValueError):  # a driver that does not answer, or answers "[N/A]"
        return []


def check_gpus(training: Training, gpus: Sequence[Gpu], num_wanted: int) -> Iterator[Finding]:
    """Fewer GPUs than the stage asks for, and bf16 where it has no units."""
    if len(gpus) < num_wanted:
        seen = f"nvidia-smi shows {len(gpus)}" if gpus else "nvidia-smi shows none"
        yield Finding("warn", f"resources.gpus is {num_wanted}, but {seen} here.", of_machine=True)
    old = [gpu for gpu in gpus if gpu.capability < AMPERE]
    if old and training.computes_in_16_bits and not training["fp16"]:
        yield Finding(
            "refuse",
            f"{training.kind}.bf16 is on (TRL's default), but {old[0].name} (compute capability "
            f"{old[0].capability:g}) has no bfloat16: set bf16: false and fp16: true, or use a GPU of 8.0 or newer.",
            of_machine=True,
        )
