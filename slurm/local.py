"""The local launcher: a stage is a child process in a session of its own, with its output in DIR/log.txt."""

import os
import signal
import subprocess
import sys
import time

import psutil

from slurm.job import LOG, STATUS, End, Job, RunningJob, read_status

GRACE_S = 10.0


class LocalLauncher:
    """Runs jobs on this machine."""

    def start(self, job: Job) -> RunningJob:
        """Start the job. If a process of an earlier flow that died still works in the directory, attach to it."""
        running = _find(job)
        if running is not None:
            return _Local(job, running, None)
        (job.directory / STATUS).unlink(missing_ok=True)
        with (job.directory / LOG).open("ab") as log:
            child = subprocess.Popen(
                _command(job),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_threads(job), **job.env},
                start_new_session=True,
            )
        return _Local(job, psutil.Process(child.pid), child)


class _Local:
    def __init__(self, job: Job, process: psutil.Process, child: "subprocess.Popen[bytes] | None") -> None:
        self.job, self.process, self.child = job, process, child

    def poll(self) -> End | None:
        """See RunningJob."""
        code = self.child.poll() if self.child else None
        if code is None and _is_alive(self.process):
            return None
        status = read_status(self.job.directory)
        if status.get("state") == "done":
            return End(0, "")
        if status.get("state") == "failed" and isinstance(status["exit_code"], int):
            return End(status["exit_code"], str(status["error"]))
        return End(code or 1, _sudden_death(code))

    def cancel(self) -> None:
        """See RunningJob. SIGTERM to the process group first, SIGKILL to what is left after ten seconds."""
        family = _family(self.process)
        _signal_group(self.process.pid, signal.SIGTERM)
        if self.child:
            _wait_for(self.child, GRACE_S)
        _, alive = psutil.wait_procs(family, timeout=GRACE_S)
        _signal_group(self.process.pid, signal.SIGKILL)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=GRACE_S)


def _command(job: Job) -> list[str]:
    stage = [f"tasks.{job.stage}", str(job.directory)]
    if job.num_processes == 1:
        return [sys.executable, "-m", *stage]
    launch = ["accelerate.commands.launch", "--num_processes", str(job.num_processes)]
    return [sys.executable, "-m", *launch, "-m", *stage]


def _threads(job: Job) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(job.num_cpus)} if job.num_cpus else {}


def _find(job: Job) -> psutil.Process | None:
    """The live process that DIR/status.json names, if it really works in this directory: pids are used again."""
    pid = read_status(job.directory).get("pid")
    if not isinstance(pid, int):
        return None
    try:
        process = psutil.Process(pid)
        arguments = process.cmdline()
        is_ours = f"tasks.{job.stage}" in arguments and str(job.directory) in arguments
        return process if is_ours and _is_alive(process) else None
    except psutil.Error:
        return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass


def _wait_for(child: "subprocess.Popen[bytes]", timeout_s: float) -> None:
    """Reap the child, so that it does not stay a zombie."""
    deadline = time.monotonic() + timeout_s
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def _sudden_death(code: int | None) -> str:
    """What to say of a process that could not write its status any more."""
    if code == -signal.SIGKILL:
        return (
            "the process was killed (SIGKILL): by you, or by the kernel because memory ran out; "
            "in that case lower the batch size or the sequence length."
        )
    name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
    return f"the process ended without a word ({name})."
