"""A stage for the tests of the flow: a chain of hashes, one a step, with a checkpoint after each; it fails as told."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

from tasks.core.errors import TransientError, UserError
from tasks.core.files import read_json, write_json
from tasks.core.main import main
from tasks.core.progress import Progress
from tasks.core.stage import Input, Stage, StageConfig, operational


class ToyConfig(StageConfig):
    seed: int
    num_steps: int = 3
    step_s: float = operational(0.0)
    log: str = operational("")
    """A file that gets a line "NAME PID STEP" at every start."""
    fail: str = operational("")
    """crash, user, transient-once, die, or fill."""
    label: str = operational("toy")


def toy(config: ToyConfig, *, out: Path, source: Path | None = None) -> None:
    checkpoint = out / "work" / "checkpoint.json"
    checkpoint.parent.mkdir(exist_ok=True)
    step, state = read_json(checkpoint) if checkpoint.exists() else (0, str(config.seed))
    if source and not checkpoint.exists():
        state += str(read_json(source / "metrics.json")["accuracy"])
    if config.log:
        with Path(config.log).open("a") as log:
            log.write(f"{config.label} {os.getpid()} {step}\n")
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", f"child of {out}"])  # a careless helper
    with Progress(out, total=config.num_steps, unit="steps") as progress:
        while step < config.num_steps:
            _fail(config.fail, out)
            state, step = hashlib.sha256(state.encode()).hexdigest(), step + 1
            time.sleep(config.step_s)
            write_json(checkpoint, [step, state])
            progress.update(step, note=f"state {state[:4]}")
    write_json(out / "metrics.json", {"accuracy": int(state[:4], 16) / 65536})


def _fail(how: str, out: Path) -> None:
    tried = out / "work" / "tried"
    if how == "crash":
        raise ValueError("the toy was told to crash")
    if how == "user":
        raise UserError("num_steps is silly: give another.")
    if how == "die":
        os.kill(os.getpid(), 9)
    if how == "fill":
        (out / "filler").write_bytes(b"x" * 10_000_000)
    if how == "transient-once" and not tried.exists():
        tried.touch()
        raise TransientError("the network is away")


STAGE = Stage("toy", 1, ToyConfig, toy, {"source": Input(optional=True)})

if __name__ == "__main__":
    main(STAGE)
