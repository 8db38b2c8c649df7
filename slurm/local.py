"""The local launcher: a stage is a child process in a session of its own, with its output in DIR/log.txt.

A session, so that a terminal's Ctrl-C does not reach it (the flow ends it in order), and so that every process that it
started, however deep and whoever's child by now, can be told and ended with it.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from slurm.job import LOG, STATUS, End, Job, RunningJob, read_status

GRACE_S = 5.0
GOMP_SPINCOUNT = "10000"


class LocalLauncher:
    """Runs jobs on this machine."""

    def command(self, job: Job) -> list[str]:
        """See Launcher."""
        stage = [f"tasks.{job.stage}", str(job.directory)]
        if job.num_processes == 1:
            return [sys.executable, "-m", *stage]
        launch = ["accelerate.commands.launch", "--num_processes", str(job.num_processes)]
        return [sys.executable, "-m", *launch, "-m", *stage]

    def find(self, job: Job) -> RunningJob | None:
        """See Launcher."""
        if (process := _find_process(job)) is not None:
            return _Local(job, process, None)
        return _Finished() if read_status(job.directory).get("state") == "done" else None

    def start(self, job: Job) -> RunningJob:
        """See Launcher."""
        (job.directory / STATUS).unlink(missing_ok=True)
        with (job.directory / LOG).open("ab") as log:
            child = subprocess.Popen(
                self.command(job),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **threads(job), **job.env},
                start_new_session=True,
            )
        return _Local(job, psutil.Process(child.pid), child)


def threads(job: Job) -> dict[str, str]:
    """The variables that keep a job to its cores; empty when it may take what it finds.

    OpenMP threads that spin while they wait for each other make a job many times slower as soon as something else
    wants a core; threads that sleep at once are slow on an idle machine. Measured on two cores, SFT of the quickstart:
    0.036 s a step spinning for ever, 0.067 sleeping, 0.039 with this count, which is also fast beside other work.
    """
    if not job.num_cpus:
        return {}
    spin = os.environ.get("GOMP_SPINCOUNT", GOMP_SPINCOUNT)
    return {"OMP_NUM_THREADS": str(job.num_cpus), "GOMP_SPINCOUNT": spin}


class _Finished:
    """A job that ended well after the flow that started it had died."""

    def poll(self) -> End:
        """See RunningJob."""
        return End(0, "")

    def cancel(self) -> None:
        """See RunningJob."""


class _Local:
    """A job's session; `child` is None when an earlier flow, now dead, started it."""

    def __init__(self, job: Job, leader: psutil.Process, child: "subprocess.Popen[bytes] | None") -> None:
        self.job, self.leader, self.child = job, leader, child

    def poll(self) -> End | None:
        """See RunningJob."""
        code = self.child.poll() if self.child else None
        if code is None and _is_alive(self.leader):
            return None
        for left_over in _session(self.leader.pid):  # a worker that outlives its stage could still write to its files
            _kill(left_over)
        status = read_status(self.job.directory)
        if status.get("state") == "done":
            return End(0, "")
        if status.get("state") == "failed" and isinstance(status["exit_code"], int):
            return End(status["exit_code"], str(status["error"]))
        return End(code or 1, _sudden_death(code))

    def cancel(self) -> None:
        """See RunningJob. SIGTERM first, SIGKILL to what is left after five seconds."""
        family = {*_session(self.leader.pid), *_descendants(self.leader)}
        for process in family:
            try:
                process.terminate()
            except psutil.NoSuchProcess:
                pass
        self._wait(family)
        for process in family | set(_session(self.leader.pid)):
            _kill(process)
        self._wait(family)

    def _wait(self, family: set[psutil.Process]) -> None:
        """Until all are gone, for five seconds at most. A zombie is gone; our own child is reaped by poll()."""
        deadline = time.monotonic() + GRACE_S
        while any(_is_alive(process) for process in family) and time.monotonic() < deadline:
            if self.child:
                self.child.poll()
            time.sleep(0.05)


def _find_process(job: Job) -> psutil.Process | None:
    """The session leader that runs this job, if there is one.

    Found by its command line and not by a pid that was written down: a flow may be killed before it, or the job,
    could write anything.
    """
    directory = job.directory.resolve()
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
            if f"tasks.{job.stage}" not in arguments or Path(arguments[-1]).resolve() != directory:
                continue
            if os.getsid(process.pid) == process.pid and _is_alive(process):
                return process
        except (psutil.Error, OSError):  # it ended meanwhile, or is somebody else's
            continue
    return None


def _session(leader_pid: int) -> list[psutil.Process]:
    """The live processes of the session that `leader_pid` leads or led."""
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader_pid and _is_alive(process := psutil.Process(pid)):
                found.append(process)
        except (psutil.NoSuchProcess, OSError):
            continue
    return found


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    """Children at any depth: some may have left for a session of their own."""
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        pass


def _sudden_death(code: int | None) -> str:
    """What to say of a process that could not write its status any more."""
    if code is None:
        return "the process, which an earlier run had started, ended without a word."
    if code == -signal.SIGKILL:
        return (
            "the process was killed (SIGKILL): by you, or by the kernel because memory ran out; "
            "in that case lower the batch size or the sequence length."
        )
    return f"the process ended without a word ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})."
