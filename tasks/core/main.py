"""`python -m tasks.<stage> DIR`: run one stage from DIR/config.json, with no Prefect and no Slurm about.

DIR/config.json holds {"stage", "config", "inputs": {name: directory, or {stage name: directory}}}; other keys are
the builder's. DIR/status.json, always written whole, is the truth about the process: {"state": "running" | "done" |
"failed", "exit_code", "error", "pid", "host", "started_at", "ended_at"}. DIR/work/provenance.json says with which code
and on what hardware it ran.
"""

import json
import os
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
from tasks.core.store.provenance import collect_provenance

# A crash is our mistake, 2 the user's, 75 (EX_TEMPFAIL) nobody's: try again.
EXIT_OK, EXIT_CRASH, EXIT_USER_ERROR, EXIT_TRY_AGAIN = 0, 1, 2, 75


def main(stage: Stage) -> None:
    """Run `stage` in the directory that the command line names and exit with its code."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m tasks.{stage.name} DIR   (DIR/config.json says everything)")
    sys.exit(run_in(stage, Path(sys.argv[1])))


def run_in(stage: Stage, out: Path) -> int:
    """Run `stage` in `out`, keeping status.json; returns the exit code."""
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    status: dict[str, Any] = {"state": "running", "exit_code": None, "error": None, "pid": os.getpid()}
    status |= {"host": socket.gethostname(), "started_at": time.time(), "ended_at": None}
    if not (out / "config.json").is_file():
        print(f"{out}/config.json does not exist: give the directory that holds the stage's config.json.")
        return EXIT_USER_ERROR
    write_json(out / "status.json", status)
    exit_code, error = EXIT_CRASH, "interrupted"
    try:
        job = read_json(out / "config.json")
        if job["stage"] != stage.name:
            raise UserError(
                f"{out}/config.json is for stage {job['stage']!r}: run python -m tasks.{job['stage']} {out}"
            )
        inputs = {name: _as_paths(value) for name, value in job["inputs"].items()}
        stage.run(stage.config.model_validate_json(json.dumps(job["config"])), out=out, **inputs)
        (out / "work").mkdir(exist_ok=True)
        write_json(out / "work" / "provenance.json", collect_provenance())
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
        write_json(out / "status.json", status)
    return exit_code


def _as_paths(value: str | dict[str, str]) -> Path | dict[str, Path]:
    return {name: Path(path) for name, path in value.items()} if isinstance(value, dict) else Path(value)


def _exit_on_sigterm(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)
