"""`python -m slurm.serving DIR [SHARE]`: runs the vLLM server for the stage in DIR on this node, and outlives nobody.

It chooses a port that is free here, says in DIR's work/server.json where the server will listen, and starts
`vllm serve`. A share of the stage has a server of its own, and server.json in its own directory.
When the server ends, or SIGTERM comes, or whoever started this process is gone (its end of our standard input closes),
the server's whole process group is ended.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from slurm.allocation import die_with_parent, free_port, own_address_towards, site_address
from slurm.job import USER_ERROR, Job, read_launch

ADDRESS = Path("work", "server.json")
GRACE_S = 3.0
POLL_S = 0.2
TRANSFER = json.dumps({"backend": "nccl"})
TRAININGS = ("grpo", "ppo")  # the blocks of the recipe whose training asks the server
MODES = {  # the key in the recipe → the option of vLLM
    "vllm_max_model_length": "--max-model-len",
    "vllm_gpu_memory_utilization": "--gpu-memory-utilization",
    "vllm_model_impl": "--model-impl",
}


def main() -> None:
    """Run the server and exit with its code."""
    share = (int(sys.argv[2]), 0) if len(sys.argv) == 3 else None
    job, _ = read_launch(Path(sys.argv[1]), share)
    vllm = find_vllm()
    if vllm is None:
        print(
            f"vllm is neither beside {sys.executable} nor on PATH: install the gpu extra (pip install -e '.[gpu]') "
            "where the job's Python is, or leave resources.vllm_gpus out (and set grpo.use_vllm: false, or "
            "teacher.base_url to the address of a server that runs).",
            file=sys.stderr,
        )
        sys.exit(USER_ERROR)
    host, port = _host(job), free_port()
    command = serve_command(vllm, job, host, port)
    print("r1:", *command, file=sys.stderr, flush=True)
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"VLLM_NO_USAGE_STATS": "1"} | ({"VLLM_SERVER_DEV_MODE": "1"} if trains(job) else {}),
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    _announce(job.desk, f"http://{host}:{port}")
    sys.exit(_mind(server))


def find_vllm() -> str | None:
    """The `vllm` command of this Python's environment, else the one on PATH; None when there is none."""
    beside = Path(sys.executable).parent / "vllm"
    return str(beside) if beside.is_file() else shutil.which("vllm")


def read_config(job: Job) -> dict[str, Any]:
    """The job's config.json: {"config", "inputs", ...}."""
    config: dict[str, Any] = json.loads((job.directory / "config.json").read_text(encoding="utf-8"))
    return config


def trains(job: Job) -> bool:
    """Whether the server is for a training, which sends it new weights; otherwise it is for a teacher."""
    return block_of(job) in TRAININGS


def block_of(job: Job) -> str:
    """The block of the recipe that holds the server's settings."""
    config = read_config(job)["config"]
    return next((block for block in TRAININGS if block in config), "teacher")


def serve_command(vllm: str, job: Job, host: str, port: int) -> list[str]:
    """`vllm serve` with the checkpoint of the stage's input `model`.

    For a teacher under the name by which it asks, and with vLLM's neutral sampling defaults instead of those in the
    checkpoint's generation_config.json: what the recipe does not say would come from there.

    For a training as TRL 1.16 wants it: plain, and not `trl vllm-serve`, since TRL 1.16 that only runs the former, is
    deprecated, and passes defaults of its own (0.9 of the memory, whatever the recipe says). What it adds beyond
    translation is added here, by build_command of trl/scripts/vllm_serve.py: the engine through which VLLMClient sends
    the weights, and log probabilities after temperature, which its importance sampling needs. The development end
    points (VLLM_SERVER_DEV_MODE) take the weights and reset the cache; so the server listens on one address only.
    """
    config = read_config(job)
    block: dict[str, Any] = config["config"][block_of(job)]
    model = Path(config["inputs"]["model"]) / "model"
    command = [vllm, "serve", str(model), "--host", host, "--port", str(port)]
    command += ["--tensor-parallel-size", str(job.resources.vllm_gpus), "--seed", str(config["config"]["seed"])]
    for key, option in MODES.items():
        command += [option, str(block[key])] if block.get(key) is not None else []
    if not trains(job):
        return [*command, "--served-model-name", block["model"], "--generation-config", "vllm"]
    if dtype := (block.get("model_init_kwargs") or {}).get("dtype"):
        command += ["--dtype", str(dtype)]
    return [*command, "--weight-transfer-config", TRANSFER, "--logprobs-mode", "processed_logprobs"]


def _host(job: Job) -> str:
    """Where to listen: on this machine only, unless the training runs on another one."""
    if not job.resources.vllm_own_node:
        return "127.0.0.1"
    return site_address() or own_address_towards(os.environ["SLURM_LAUNCH_NODE_IPADDR"])


def _announce(directory: Path, url: str) -> None:
    path = directory / ADDRESS
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"url": url}), encoding="utf-8")
    partial.replace(path)


def _mind(server: "subprocess.Popen[bytes]") -> int:
    """Wait for the server's end, or bring it about; returns its exit code."""
    is_told = False

    def tell(*_: object) -> None:
        nonlocal is_told
        is_told = True

    signal.signal(signal.SIGTERM, tell)
    while server.poll() is None and not is_told:
        is_readable = select.select([sys.stdin], [], [], POLL_S)[0]
        is_told |= bool(is_readable) and not os.read(sys.stdin.fileno(), 1)
    _signal(server, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal(server, signal.SIGKILL)
    code = server.wait()
    return code if code >= 0 else 128 - code


def _signal(server: "subprocess.Popen[bytes]", signum: signal.Signals) -> None:
    """To all that is left of the server's processes, also after itself."""
    try:
        os.killpg(server.pid, signum)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    main()
