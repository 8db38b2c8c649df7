"""Which launcher a run gets, and what it would do."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flows.plan import Plan, PlannedStage
from flows.profile import load_profile
from slurm.job import Job, Launcher, RunningJob, Wait, wait_quietly
from slurm.launcher import SlurmLauncher
from slurm.local import LocalLauncher, threads
from slurm.profile import Profile
from slurm.submission import SCRIPT, SETUP
from tasks.core.errors import UserError
from tasks.core.teachers.config import AnyTeacher, LocalTeacher, OpenAITeacher


@dataclass(frozen=True)
class MachineLauncher(LocalLauncher):
    """The local launcher, which follows a stage that an earlier run with --launch slurm left in Slurm's queue.

    A second process in the same directory would spoil both. Slurm is asked only where such a run has been.
    """

    cluster: str | None = None

    def find(self, job: Job, wait: Wait = wait_quietly) -> RunningJob | None:
        """See Launcher."""
        if (job.directory / SETUP).exists() and shutil.which("squeue"):
            return SlurmLauncher(load_profile(self.cluster), sys.executable).find(job, wait)
        return super().find(job)

    def start(self, job: Job, wait: Wait = wait_quietly) -> RunningJob:
        """See Launcher."""
        (job.directory / SETUP).unlink(missing_ok=True)  # there is no job of Slurm's any more
        return super().start(job)


ADDRESS_KEYS = ("vllm_server_base_url", "vllm_server_host", "vllm_server_port")


def make_launcher(launch: str, cluster: str | None, plan: Plan) -> Launcher:
    """The launcher for `--launch` and `--cluster`. Raises UserError, also for a stage that cannot run there."""
    for stage in plan.stages:
        _check_vllm_server(stage)
        _check_resources(stage)
    if launch == "slurm":
        profile = load_profile(cluster)
        _check_containers(profile, plan)
        return SlurmLauncher(profile, sys.executable)
    if launch != "local":
        raise UserError(f"launch is {launch!r}: allowed are local and slurm.")
    num_nodes = int(os.environ.get("SLURM_NNODES", 1))
    for stage in plan.stages:
        wanted = stage.spec.resources.num_nodes
        if wanted > num_nodes:
            what = f"this allocation has {num_nodes}" if "SLURM_JOB_ID" in os.environ else "this is one machine"
            raise UserError(
                f"stage {stage.name} wants {wanted} nodes (resources.nodes, vllm_own_node), but {what}: run it with "
                f"--launch slurm, or inside an allocation: sbatch --nodes={wanted} slurm/pipeline.sbatch RECIPE."
            )
    return MachineLauncher(cluster=cluster)


def _check_resources(stage: PlannedStage) -> None:
    """Refuse resources that the kind of stage cannot use. Raises UserError."""
    kind, needs = stage.spec.stage, stage.spec.resources
    if needs.nodes > 1 and not kind.is_distributed:
        raise UserError(
            f"stage {stage.name}: resources.nodes is {needs.nodes}, but {kind.name} runs as one process: set nodes: 1."
        )
    if needs.shares > 1 and kind.share is None:
        raise UserError(
            f"stage {stage.name}: resources.shares is {needs.shares}, but {kind.name} cannot be shared out: leave "
            "shares out; generate_traces and verify_traces can."
        )


def _check_vllm_server(stage: PlannedStage) -> None:
    """Refuse a vLLM server that nobody starts, and one that nobody asks. Raises UserError."""
    teacher = getattr(stage.spec.config, "teacher", None)
    if isinstance(teacher, AnyTeacher):
        _check_teacher(stage, teacher)
        return
    name = "ppo" if hasattr(stage.spec.config, "ppo") else "grpo"
    block, num_gpus = getattr(stage.spec.config, name, {}), stage.spec.resources.vllm_gpus
    is_asked = bool(block.get("use_vllm")) and block.get("vllm_mode") == "server"
    named = [key for key in ADDRESS_KEYS if key in block]
    if num_gpus and not is_asked:
        raise UserError(
            f"stage {stage.name}: resources.vllm_gpus is {num_gpus}, but the training does not use a vLLM server: set "
            f"{name}.use_vllm: true and {name}.vllm_mode: server (in a train_{name} stage), or leave vllm_gpus out."
        )
    if num_gpus and named:
        raise UserError(
            f"stage {stage.name}: resources.vllm_gpus is {num_gpus}, which starts a vLLM server, but {name}.{named[0]} "
            "names another one: leave one of them out."
        )
    if num_gpus == stage.spec.resources.gpus and num_gpus and not stage.spec.resources.vllm_own_node:
        raise UserError(
            f"stage {stage.name}: resources.vllm_gpus is {num_gpus} of gpus: {num_gpus}, which leaves none to train "
            "on: raise gpus."
        )
    if is_asked and not num_gpus and not named:
        raise UserError(
            f"stage {stage.name}: {name}.vllm_mode is server, but there is none: set resources.vllm_gpus to the number "
            f"of GPUs that a server started beside the training gets, or {name}.vllm_server_base_url to the address of "
            "one that runs."
        )


def _check_teacher(stage: PlannedStage, teacher: AnyTeacher) -> None:
    """Refuse a teacher that has no checkpoint or no server, and what it has no use for. Raises UserError."""
    needs, has_model = stage.spec.resources, "model" in stage.spec.inputs
    asks_ours = isinstance(teacher, OpenAITeacher) and teacher.base_url is None
    mistake = ""
    if needs.vllm_gpus and not asks_ours:
        mistake = (
            f"resources.vllm_gpus is {needs.vllm_gpus}, which starts a vLLM server, but the teacher does not ask it: "
            "set teacher.kind: openai and leave teacher.base_url out, or leave vllm_gpus out"
        )
    elif asks_ours and not needs.vllm_gpus:
        mistake = (
            "teacher.base_url is left out, but there is no server: set resources.vllm_gpus to the number of GPUs that "
            "a vLLM server started beside the stage gets, or base_url to the address of an endpoint that runs"
        )
    elif needs.vllm_own_node:
        mistake = "vllm_own_node is for trainings: the teacher's stage needs no GPU of its own, leave it out"
    elif (asks_ours or isinstance(teacher, LocalTeacher)) and not has_model:
        who = "the server" if asks_ours else f"teacher.kind {teacher.kind}"
        mistake = f"{who} needs a checkpoint: set model to a fetch_model, train_sft, train_grpo or train_ppo stage"
    elif has_model and not asks_ours and not isinstance(teacher, LocalTeacher):
        mistake = f"model is given, but a teacher of kind {teacher.kind} has no use for it here: leave it out"
    if mistake:
        raise UserError(f"stage {stage.name}: {mistake}.")


def _check_containers(profile: Profile, plan: Plan) -> None:
    """Refuse several nodes where the profile's Python is a command of several words. Raises UserError.

    On the other nodes srun starts the interpreter by its path, and srun itself is rarely found inside a container.
    """
    several = [stage.name for stage in plan.stages if stage.spec.resources.num_nodes > 1]
    if several and profile.python and len(profile.python) > 1:
        raise UserError(
            f"stage {several[0]} wants several nodes (resources.nodes, vllm_own_node), but cluster profile "
            f"{profile.name} starts Python with `{shlex.join(profile.python)}`, a command of several words, such as a "
            "container's: give `python` as one path that is the same on every node, or set nodes: 1."
        )


def default_jobs(plan: Plan, launcher: Launcher) -> int:
    """How many stages run at a time where the user does not say.

    A cluster's queue decides that better than we. In small a stage mostly starts up, on one core: two have room here.
    """
    if isinstance(launcher, SlurmLauncher):
        return len(plan.stages)
    return 2 if plan.recipe.in_small else 1


def describe_job(launcher: Launcher, job: Job) -> Iterator[str]:
    """The commands that start `job`, as one would type them."""
    is_here = isinstance(launcher, LocalLauncher) or (isinstance(launcher, SlurmLauncher) and launcher.is_local(job))
    variables = [f"{name}={value}" for name, value in threads(job).items()] if is_here else []
    for command in launcher.commands(job):
        yield shlex.join([*variables, *command])


def describe_scripts(launcher: Launcher, jobs: Sequence[Job]) -> str:
    """What the jobs that go to Slurm run: the script, and the lines of the profile that it sources."""
    if not isinstance(launcher, SlurmLauncher) or all(map(launcher.is_local, jobs)):
        return ""
    setup = launcher.profile.setup_script(launcher.python)
    return f"\n--- {SCRIPT}\n{SCRIPT.read_text(encoding='utf-8')}\n--- setup.sh in each job's directory\n{setup}"
