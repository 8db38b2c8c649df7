"""A toy stage with resumable steps, and the builder's loop around it, for the laws of the store.

In a process of its own: `toy_process(store, config)`. `die_at` names a function of the store, as "module.function" or
"module.Class.method", at whose call that process kills itself with SIGKILL.
"""

import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tasks.core.files import read_json, write_json
from tasks.core.stage import Input, Stage, StageConfig, operational
from tasks.core.store import Hit, Run, RunStage, Store, code_hash, collect_provenance, fingerprint_of, identity_of

PROJECT_DIR = Path(__file__).resolve().parents[2]


class ToyConfig(StageConfig):
    seed: int
    num_steps: int = 3
    scale: float = 1.0
    log: str = operational("")
    step_s: float = operational(0.0)
    fail_at: int = operational(-1)


def walk(config: ToyConfig, *, out: Path, **inputs: Path) -> None:
    """A chain of hashes, one a step, with a checkpoint after each; logs the step that it began with."""
    checkpoint = out / "work" / "checkpoint.json"
    checkpoint.parent.mkdir(exist_ok=True)
    step, state = read_json(checkpoint) if checkpoint.exists() else (0, str(config.seed))
    if config.log:
        with Path(config.log).open("a") as log:
            log.write(f"{step}\n")
    while step < config.num_steps:
        if step == config.fail_at:
            raise RuntimeError("the toy was told to fail")
        state, step = hashlib.sha256(state.encode()).hexdigest(), step + 1
        time.sleep(config.step_s)
        write_json(checkpoint, [step, state])
    (out / "model").mkdir(exist_ok=True)
    (out / "model" / "weights.bin").write_bytes(bytes.fromhex(state) * 100)
    write_json(out / "metrics.json", {"accuracy": int(state[:4], 16) / 65536})


TOY = Stage("toy", 1, ToyConfig, walk, {"model": Input(("toy",), optional=True)}, libraries=("pydantic",))


def toy_identity(config: ToyConfig, inputs: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The identity of what `build` makes."""
    return identity_of(TOY, config, inputs or {})


def build(
    store: Store, config: ToyConfig, inputs: Mapping[str, str] | None = None,
    on_wait: Callable[[str], None] = print, rebuild: bool = False,
) -> tuple[Hit, str]:  # fmt: skip
    """What the flow's builder does: (the artifact, "cached" or the reason why it was built)."""
    identity = toy_identity(config, inputs)
    key = ("toy", fingerprint_of(identity))
    found = store.lookup(*key)
    if isinstance(found, Hit) and not rebuild:
        return found, "cached"
    with store.lock(*key, on_wait) as lock:
        found = store.lookup(*key, lock)
        if isinstance(found, Hit) and not rebuild:
            return found, "cached"
        out, started = store.staging(*key, fresh=rebuild), time.time()
        write_json(out / "config.json", {"stage": "toy", "config": config.identity()})
        walk(config, out=out)
        hit = store.publish(
            lock, identity=identity, code=code_hash(TOY), provenance=collect_provenance(),
            started_at=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(started)), wall_s=time.time() - started,
        )  # fmt: skip
    return hit, "rebuilt" if isinstance(found, Hit) else found.reason


def toy_run(store: Store, run_id: str, stages: Mapping[str, Hit], **changes: Any) -> Run:
    """Write the file of a finished run that used these artifacts."""
    used = [
        RunStage(name=name, stage="toy", fingerprint=hit.record.fingerprint, state="built")
        for name, hit in stages.items()
    ]
    facts = {"recipe": "toy", "recipe_path": "toy.yaml", "recipe_text": "", "state": "done"}
    facts |= {"started_at": f"2024-01-01T00:00:{len(store.runs()):02}+00:00"}
    run = Run(run_id=run_id, stages=used, **facts | changes)
    store.write_run(run)
    return run


def toy_process(root: Path, config: ToyConfig, die_at: str = "", **environment: str) -> subprocess.Popen[str]:
    """Run `build` in a real process; its last line of output is "cached" or the reason why it was built."""
    code = "import store_toy, sys; store_toy.main(*sys.argv[1:])"
    paths = os.pathsep.join((str(PROJECT_DIR), str(Path(__file__).parent)))
    return subprocess.Popen(
        [sys.executable, "-c", code, str(root), config.model_dump_json(), die_at],
        env=os.environ | environment | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def main(root: str, config: str, die_at: str) -> None:
    """The other end of `toy_process`."""
    if die_at:
        module, *owners, name = die_at.split(".")
        target: Any = importlib.import_module(f"tasks.core.store.{module}")
        for owner in owners:
            target = getattr(target, owner)
        setattr(target, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    print(build(Store(Path(root)), ToyConfig(**json.loads(config)))[1])
