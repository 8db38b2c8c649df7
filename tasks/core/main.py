"""`python -m tasks.<stage> DIR [--share I/N]`: run one stage from DIR/config.json, with no Prefect and no Slurm about.

DIR/config.json holds {"stage", "config", "inputs": {name: directory, or {stage name: directory}}}; other keys are
the builder's. DIR/status.json tells how the process does (tasks/core/status.py), DIR's work/attempts.jsonl how often
and how long it was tried, DIR's work/provenance.json with which code and on what hardware it ran in the end. A file
DIR/stop asks it to save and end (tasks/core/stopping.py).

With --share it does the I-th of N shares (0 <= I < N) of the stage's parts and assembles nothing. status.json,
progress.json, stop and attempts.jsonl are then in DIR's work/shares/I.

SIGTERM ends it at once. SIGUSR2 has it write what each of its Python threads is doing to stderr, even while it hangs
in C code, and go on; under `accelerate launch` send it to the ranks, for it would end the launcher.
"""

import errno
import faulthandler
import json
import os
import re
import shutil
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tasks.core.attempts import share_desk
from tasks.core.ending import DONE, EXIT_CRASH, EXIT_OK, EXIT_USER_ERROR, INTERRUPTED, SAID_TOGETHER, Ending, ending_of
from tasks.core.errors import UserError
from tasks.core.files import read_json, write_json
from tasks.core.stage import Stage
from tasks.core.status import Status
from tasks.core.stopping import STOP, Paused
from tasks.core.store.disk import disk_errors
from tasks.core.store.provenance import collect_provenance

FULL_BYTES = 1_000_000  # a crash with less than this free is put down to the disk

Share = tuple[int, int]
"""(I, N): the I-th of N shares, counted from 0."""


class _Terminated(SystemExit):
    """SIGTERM has come."""


def main(stage: Stage) -> None:
    """Run `stage` as the command line says and exit with its code."""
    faulthandler.register(signal.SIGUSR2, all_threads=True, chain=False)
    try:
        out, share = _read_command(stage, sys.argv[1:])
    except UserError as mistake:
        print(mistake, file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    sys.exit(run_in(stage, out, share))


def _read_command(stage: Stage, arguments: list[str]) -> tuple[Path, Share | None]:
    """DIR and the share that is asked for. Raises UserError."""
    usage = f"usage: python -m tasks.{stage.name} DIR [--share I/N]   (DIR/config.json says everything)"
    if len(arguments) not in (1, 3) or arguments[0].startswith("-") or arguments[1:2] not in ([], ["--share"]):
        raise UserError(usage)
    out = Path(arguments[0])
    if not (out / "config.json").is_file():
        raise UserError(f"{out}/config.json does not exist: give the directory that holds the stage's config.json.")
    if len(arguments) == 1:
        return out, None
    found = re.fullmatch(r"(\d+)/(\d+)", arguments[2], re.ASCII)
    if not found or int(found[1]) >= int(found[2]):
        raise UserError(f"--share is {arguments[2]!r}: give I/N with 0 <= I < N, such as 0/8 for the first of eight.")
    if stage.share is None:
        raise UserError(
            f"--share is {arguments[2]!r}, but {stage.name} cannot be shared out: start it without --share, and leave "
            "`shares` out of its resources in the recipe."
        )
    return out, (int(found[1]), int(found[2]))


def run_in(stage: Stage, out: Path, share: Share | None = None) -> int:
    """Run `stage`, or a share of it, in `out`, keeping status.json; returns the exit code."""
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    desk = share_desk(out, share[0]) if share else out
    status, ending = Status(desk), INTERRUPTED
    try:
        with disk_errors(out.parent.parent if out.parent.name == ".staging" else out):
            desk.mkdir(parents=True, exist_ok=True)
            status.begin()
            _run(stage, out, share, desk, is_first=status.rank == 0)
        ending = DONE
    except _Terminated:
        raise
    except SystemExit as end:  # of a library: not the end that anyone asked for
        traceback.print_exc()
        ending = Ending(EXIT_CRASH, "code_error", f"something called sys.exit({end.code!r}); see the log")
    except Exception as error:  # the border of the process: whatever it was, the status file must say so
        ending = ending_of(error, stage)
        _print(ending)
    finally:
        if ending.cause in (None, "paused"):  # it was heard, or it came too late: it is no part of the artifact
            (desk / STOP).unlink(missing_ok=True)
        status.end(ending)
    # A rank that ends badly has the launcher kill the others, and rank 0 has still to say why they end.
    return EXIT_OK if status.rank and ending.cause in SAID_TOGETHER else ending.exit_code


def _run(stage: Stage, out: Path, share: Share | None, desk: Path, *, is_first: bool) -> None:
    """Run the stage's function on what config.json says. A disk that is full is the user's to mend."""
    job = read_json(out / "config.json")
    if job["stage"] != stage.name:
        raise UserError(f"{out}/config.json is for stage {job['stage']!r}: run python -m tasks.{job['stage']} {out}")
    inputs = {name: _as_paths(value) for name, value in job["inputs"].items()}
    config = stage.config.model_validate_json(json.dumps(job["config"]))
    # Before the work: the checkout may change while it runs.
    provenance = collect_provenance() if is_first and not share else None
    try:
        if share:
            assert stage.share is not None, "the command line was checked"
            stage.share(config, out=out, share=share, desk=desk, **inputs)
        else:
            stage.run(config, out=out, **inputs)
    except Exception as error:
        # Libraries written in Rust or C++ (safetensors, torch.save) say it in words of their own.
        if not isinstance(error, UserError | Paused | OSError) and shutil.disk_usage(out).free < FULL_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out)) from error
        raise
    if provenance:
        write_json(out / "work" / "provenance.json", provenance)


def _print(ending: Ending) -> None:
    """What the log says, to be called while the exception is handled: a traceback where it helps to understand."""
    if ending.cause in ("code_error", "out_of_memory"):
        traceback.print_exc()
    if ending.cause != "code_error":
        print(
            {"transient": "error, may work again soon: ", "paused": ""}.get(str(ending.cause), "error: ")
            + str(ending.error),
            file=sys.stderr,
        )


def _as_paths(value: str | dict[str, str]) -> Path | dict[str, Path]:
    return {name: Path(path) for name, path in value.items()} if isinstance(value, dict) else Path(value)


def _exit_on_sigterm(signum: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated(128 + signum)
