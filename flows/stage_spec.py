"""A stage of a recipe as the rest of the flows knows it."""

from collections.abc import Mapping
from dataclasses import dataclass

from slurm.resources import Resources
from tasks.core.stage import Stage, StageConfig


@dataclass(frozen=True)
class StageSpec:
    """One stage of a recipe. `inputs` names earlier stages: one, or a tuple where the stage takes all of the run."""

    name: str
    stage: Stage
    config: StageConfig
    inputs: Mapping[str, str | tuple[str, ...]]
    resources: Resources
