"""`r1 run --launch slurm` in the tests: a profile that polls often, and what Slurm and the store say afterwards."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from r1_process import R1, toy_checkpoints, wait_until

from slurm.queue import run

PROFILE = "name: fast\ncpu_stages: slurm\npoll_s: 0.3\nsettle_s: 1.5\nearly_signal_s: 30\n"


class SlurmR1(R1):
    """The r1 command with `--launch slurm` and a profile of its own, whose path has a blank."""

    def __init__(self, directory: Path, prefect_url: str) -> None:
        super().__init__(directory, prefect_url)
        self.profile = directory / "my clusters" / "fast.yaml"
        self.profile.parent.mkdir()
        self.profile.write_text(PROFILE)

    @property
    def launch(self) -> tuple[str, ...]:
        """The options that send stages to Slurm."""
        return ("--launch", "slurm", "--cluster", str(self.profile))

    def start_run(self, recipe: Path, *options: str) -> "subprocess.Popen[str]":
        """Start `r1 run` and leave it."""
        return self.start("run", recipe, *self.launch, *options, stderr=subprocess.STDOUT)

    def run(self, recipe: Path, *options: str, exit_code: int = 0) -> str:
        """`r1 run` to its end; returns its output."""
        return self("run", recipe, *self.launch, *options, exit_code=exit_code)

    def run_with_traceback(self, recipe: Path, exit_code: int) -> str:
        """As `run`, where a stage's own traceback is shown."""
        process = self.start_run(recipe)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == exit_code, output
        return output

    def record(self, stage: str = "toy") -> dict[str, Any]:
        """The record of the only artifact of this stage."""
        (path,) = self.store.glob(f"{stage}/*/record.json")
        record: dict[str, Any] = json.loads(path.read_text())
        return record

    def wait_for_steps(self, least: int = 1, num_toys: int = 1) -> None:
        """Wait until so many toys that are not ready yet have each saved so many steps."""
        wait_until(lambda: sum(step >= least for step in self._steps()) >= num_toys, 120, f"{least} steps")

    def _steps(self) -> list[int]:
        return [json.loads(path.read_text())[0] for path in toy_checkpoints(self.store)]


def kill(process: "subprocess.Popen[str]") -> None:
    """SIGKILL to the command alone: what it submitted lives on."""
    process.kill()
    process.communicate()


def queue(fmt: str = "%T", *options: str) -> list[str]:
    """A line for each job in the queue, the tasks of arrays apart: its state, or what `fmt` says."""
    return run("squeue", "--noheader", "--array", f"--format={fmt}", *options).split("\n")[:-1]


def wait_for_jobs(num_jobs: int, state: str = "PENDING") -> None:
    """Wait until so many jobs are in that state, and none is in another."""
    wait_until(lambda: queue() == [state] * num_jobs, 120, f"{num_jobs} jobs to be {state}")


def submitted(store: Path) -> list[str]:
    """The names of all jobs for this store that Slurm ever took, all of which have ended; an array counts once."""
    wait_until(lambda: _remembered(store) <= {row[0] for row in _accounted()}, 60, "accounting")
    ours = {job.split("_")[0]: name for _, job, name, comment in _accounted() if _is_for(store, comment)}
    return sorted(ours.values())


def _is_for(store: Path, comment: str) -> bool:
    return f"r1:{store}/" in unquote(comment)


def _remembered(store: Path) -> set[str]:
    """The ids of this store's jobs that the queue shows, ended ones too. (Others may never get to accounting: sbatch
    leaves a record of some of those that it refuses.)"""
    rows = (row.split(" ", 1) for row in queue("%A %k", "--states=all"))
    return {row[0] for row in rows if _is_for(store, row[1])}


def _accounted() -> list[list[str]]:
    """(id, id of an array and task, name, comment) of every job that accounting knows to have ended."""
    command = ("sacct", "--noheader", "--parsable2", "--allocations", "--starttime=2020-01-01")
    rows = [line.split("|") for line in run(*command, "--format=State,JobIDRaw,JobID,JobName,Comment").splitlines()]
    return [row[1:] for row in rows if row[0] not in ("PENDING", "RUNNING")]


def toy_accuracy(num_steps: int, seed: int = 0) -> float:
    """What an undisturbed toy ends with."""
    state = str(seed)
    for _ in range(num_steps):
        state = hashlib.sha256(state.encode()).hexdigest()
    return int(state[:4], 16) / 65536
