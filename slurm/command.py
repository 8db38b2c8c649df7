"""The command line of a stage: alone, with a process per GPU, or on several nodes of the allocation around us."""

import sys

from slurm.allocation import free_port, node_names, site_address, srun
from slurm.job import Job

RECIPES_CHOICE = ("--gpu_ids", "all", "--mixed_precision", "no", "--dynamo_backend", "no")
ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", *RECIPES_CHOICE)
"""The recipe decides precision, compilation, DeepSpeed and FSDP, through TRL's arguments.

All is said here so that no default file of the user's does. --multi_gpu is "several processes", on CPUs too: without
it, and without a GPU in sight, accelerate starts one process a node and no word of it.
"""


def stage_command(job: Job) -> list[str]:
    """What runs the stage. On several nodes: srun, with one launcher a node (slurm/agent.py)."""
    needs = job.resources
    if needs.nodes > 1:
        meeting = [str(free_port()), *([address] if (address := site_address()) else [])]
        agent = [sys.executable, "-m", "slurm.agent", str(job.directory), *meeting]
        return [*srun(node_names()[: needs.nodes], needs.cpus or job.num_cpus), *agent]
    share = ["--share", f"{job.share[0]}/{job.share[1]}"] if job.share else []
    stage = ["-m", f"tasks.{job.stage}", str(job.directory), *share]
    if job.processes_per_node == 1 and needs.accelerate is None:
        return [sys.executable, *stage]
    meeting = ["--num_machines", "1", "--machine_rank", "0", "--main_process_port", "0"]
    return [sys.executable, "-m", *_launch(job), *meeting, "--num_processes", str(job.processes_per_node), *stage]


def node_command(job: Job, rank: int, host: str, port: str) -> list[str]:
    """What one of several nodes runs: its processes meet the others' at host:port of the first node."""
    nodes, total = job.resources.nodes, job.resources.nodes * job.processes_per_node
    meeting = ["--num_machines", str(nodes), "--machine_rank", str(rank), "--num_processes", str(total)]
    meeting += ["--main_process_ip", host, "--main_process_port", port, "--rdzv_backend", "static"]
    return [sys.executable, "-m", *_launch(job), *meeting, "-m", f"tasks.{job.stage}", str(job.directory)]


def _launch(job: Job) -> tuple[str, ...]:
    """accelerate's module with what does not depend on the machines.

    A file of `resources.accelerate` gives DeepSpeed or FSDP. What else it says of this run, such as its precision or
    its number of processes, yields to the command line. DeepSpeed's "standard" launcher is torchrun, which each node
    starts for itself; its default would log in to the others with pdsh.
    """
    config = job.resources.accelerate
    if config is None:
        return ACCELERATE
    launcher = ("--deepspeed_multinode_launcher", "standard") if job.resources.nodes > 1 else ()
    return ("accelerate.commands.launch", "--config_file", config, *RECIPES_CHOICE, *launcher)
