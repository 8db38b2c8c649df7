"""Packages that a stage needs and this Python lacks, each with the command that installs it."""

import importlib.util
from collections.abc import Iterator

from tasks.core.preflight.finding import Finding
from tasks.core.preflight.sharding import Sharding
from tasks.core.preflight.training import Training
from tasks.core.trl_requirements import EXTRA, missing_packages


def check_packages(training: Training, sharding: Sharding) -> Iterator[Finding]:
    """What the TRL keys, the adapters and the sharding of a training need."""
    for sentence in missing_packages(training.block, training.lora):
        yield Finding("refuse", sentence, of_machine=True)
    if sharding.kind == "zero":
        yield from check_package("deepspeed", str(sharding), "pip install deepspeed")


def check_package(package: str, reason: str, command: str = EXTRA) -> Iterator[Finding]:
    """Refuse when `package` cannot be imported here. `reason` is what needs it."""
    if importlib.util.find_spec(package) is None:
        yield Finding(
            "refuse", f"{reason} needs the package {package}, which is not installed here: {command}.", of_machine=True
        )
