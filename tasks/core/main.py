"""`python -m tasks.<stage> DIR`: run one stage from DIR/config.json, with no Prefect and no Slurm about.

DIR/config.json holds {"stage", "config", "inputs": {name: directory, or {stage name: directory}}}; other keys are
the builder's. DIR/status.json, always written whole, is the truth about the process: {"state": "running" | "done" |
"failed", "exit_code", "error", "pid", "host", "started_at", "ended_at"}. DIR/work/provenance.json says with which code
and on what hardware it ran.
"""

import errno
import json
import os
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from tasks.core.errors import TransientError, UserError
from tasks.core.files import read_json, write_json
from tasks.core.stage import Stage
from tasks.core.store.disk import disk_errors
from tasks.core.store.provenance import collect_provenance

# A crash is our mistake, 2 the user's, 75 (EX_TEMPFAIL) nobody's: try again.
EXIT_OK, EXIT_CRASH, EXIT_USER_ERROR, EXIT_TRY_AGAIN = 0, 1, 2, 75
FULL_BYTES = 1_000_000  # a crash with less than this free is put down to the disk


def main(stage: Stage) -> None:
    """Run `stage` in the directory that the command line names and exit with its code."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m tasks.{stage.name} DIR   (DIR/config.json says everything)")
    sys.exit(run_in(stage, Path(sys.argv[1])))


def run_in(stage: Stage, out: Path) -> int:
    """Run `stage` in `out`, keeping status.json; returns the exit code."""
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    if not (out / "config.json").is_file():
        print(f"{out}/config.json does not exist: give the directory that holds the stage's config.json.")
        return EXIT_USER_ERROR
    status: dict[str, Any] = {"state": "running", "exit_code": None, "error": None, "pid": os.getpid()}
    status |= {"host": socket.gethostname(), "started_at": time.time(), "ended_at": None}
    exit_code, error = EXIT_CRASH, "interrupted"
    try:
        write_json(out / "status.json", status)
        _run(stage, out)
        exit_code, error = EXIT_OK, ""
    except UserError as mistake:
        exit_code, error = EXIT_USER_ERROR, str(mistake)
        print(f"error: {mistake}", file=sys.stderr)
    except TransientError as trouble:
        exit_code, error = EXIT_TRY_AGAIN, str(trouble)
        print(f"error, may work again soon: {trouble}", file=sys.stderr)
    except Exception as crash:  # the border of the process: whatever it was, the status file must say so
        exit_code, error = EXIT_CRASH, f"{type(crash).__name__}: {crash}"
        traceback.print_exc()
    finally:
        state = "done" if exit_code == EXIT_OK else "failed"
        status |= {"state": state, "exit_code": exit_code, "error": error or None, "ended_at": time.time()}
        _write_last_words(out, status)
    return exit_code


def _run(stage: Stage, out: Path) -> None:
    """Run the stage's function on what config.json says. A disk that is full is the user's to mend."""
    job = read_json(out / "config.json")
    if job["stage"] != stage.name:
        raise UserError(f"{out}/config.json is for stage {job['stage']!r}: run python -m tasks.{job['stage']} {out}")
    inputs = {name: _as_paths(value) for name, value in job["inputs"].items()}
    provenance = collect_provenance()  # before the work: the checkout may change while it runs
    store = out.parent.parent if out.parent.name == ".staging" else out
    with disk_errors(store):
        try:
            stage.run(stage.config.model_validate_json(json.dumps(job["config"])), out=out, **inputs)
        except Exception as error:
            # Libraries written in Rust or C++ (safetensors, torch.save) say it in words of their own.
            if not isinstance(error, UserError | OSError) and shutil.disk_usage(out).free < FULL_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out)) from error
            raise
        (out / "work").mkdir(exist_ok=True)
        write_json(out / "work" / "provenance.json", provenance)


def _write_last_words(out: Path, status: dict[str, Any]) -> None:
    """Write status.json even on a full disk: progress.json, of no use any more, gives the space it takes."""
    try:
        write_json(out / "status.json", status)
    except OSError:
        (out / "progress.json").unlink(missing_ok=True)
        (out / "status.json").write_text(json.dumps(status), encoding="utf-8")  # in place, in the block it has


def _as_paths(value: str | dict[str, str]) -> Path | dict[str, Path]:
    return {name: Path(path) for name, path in value.items()} if isinstance(value, dict) else Path(value)


def _exit_on_sigterm(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)
