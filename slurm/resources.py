"""What a stage asks of a machine: the recipe's `resources:`. Site matters, such as partitions, are in the profile."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Resources(BaseModel):
    """What a stage needs to run, per node: where and how, never part of the identity. None: the site's default."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    gpus: Annotated[int, Field(ge=0)] = 0
    """Number of GPUs."""
    cpus: Annotated[int, Field(ge=1)] | None = None
    """Number of CPU cores."""
    mem_gb: Annotated[float, Field(gt=0)] | None = None
    """Memory in GB."""
    time: Annotated[str, Field(pattern=r"^(\d+-)?\d{1,2}:[0-5]\d:[0-5]\d$")] | None = None
    """Wall-clock limit as HH:MM:SS or D-HH:MM:SS. On Slurm a stage that reaches it saves, and a new job goes on."""
    nodes: Annotated[int, Field(ge=1)] = 1
    """Number of machines that train together."""
    accelerate: Annotated[str, Field(min_length=1)] | None = None
    """How the processes of a training share it: a file of recipes/accelerate by its name (ddp, zero2, zero3,
    zero3_offload, fsdp), or the path of your own file for `accelerate launch`. None: each has the whole model."""
    vllm_gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs for a vLLM server that is started beside the stage, out of `gpus`: for a training (TRL's `vllm_mode:
    server`), or for the teacher of generate_traces, which may have them all."""
    vllm_own_node: bool = False
    """Give that server a node of its own, beyond `nodes`."""
    shares: Annotated[int, Field(ge=1)] = 1
    """On Slurm: cut the work of prepare_data, generate_traces or verify_traces into so many jobs of an array."""
    max_parallel: Annotated[int, Field(ge=1)] | None = None
    """Most of them at a time."""
    hang_minutes: Annotated[float, Field(gt=0)] | None = 30.0
    """On Slurm: minutes without any progress after which the stage is ended and tried once more; null: never."""

    @model_validator(mode="after")
    def _fits(self) -> "Resources":
        if self.vllm_own_node and not self.vllm_gpus:
            raise ValueError("vllm_own_node is true, but vllm_gpus is 0: say how many GPUs the vLLM server gets")
        if self.vllm_gpus > self.gpus:
            raise ValueError(f"vllm_gpus is {self.vllm_gpus}, but a node has gpus: {self.gpus}; give at most that many")
        if self.vllm_gpus and not self.vllm_own_node and self.nodes > 1:
            raise ValueError(
                "a vLLM server for a training on more than one node wants a node to itself: vllm_own_node: true"
            )
        if self.time_s == 0:
            raise ValueError(f"time is {self.time}, which Slurm takes for no limit at all: leave it out, or give one")
        if self.shares > 1 and self.num_nodes > 1:
            raise ValueError(f"shares is {self.shares} and nodes {self.num_nodes}: a share runs on one node")
        return self

    @property
    def num_nodes(self) -> int:
        """Machines in all, the vLLM server's own one included."""
        return self.nodes + self.vllm_own_node

    @property
    def processes_per_node(self) -> int:
        """Training processes on each training node: one a GPU, or one where there is none."""
        return max(1, self.gpus - (0 if self.vllm_own_node else self.vllm_gpus))

    @property
    def time_s(self) -> int | None:
        """The wall-clock limit in seconds."""
        if self.time is None:
            return None
        days, _, clock = self.time.rpartition("-")
        hours, minutes, seconds = map(int, clock.split(":"))
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
