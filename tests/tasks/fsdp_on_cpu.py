"""`python -m tests.tasks.fsdp_on_cpu DIR`: a training under FSDP on CPUs, where accelerate would go without it.

accelerate has FSDP for kinds of devices that it lists, and CPUs are not among them. Here they are told to be one. What
follows is the real thing: PyTorch's fully_shard over gloo, accelerate's gathering, transformers' checkpoints.
"""

import json
import sys
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from flows.registry import load_stage
from tasks.core.main import main

_original = AcceleratorState.__init__


def _init(self: AcceleratorState, *arguments: Any, **keywords: Any) -> None:
    if PartialState._shared_state.get("distributed_type") == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    _original(self, *arguments, **keywords)


if __name__ == "__main__":
    AcceleratorState.__init__ = _init
    main(load_stage(json.loads(Path(sys.argv[1], "config.json").read_text())["stage"]))
