"""The teacher process: a distilabel pipeline that cannot outlive its stage, nor hold up its end."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tasks.core.errors import UserError
from tasks.core.files import read_json, write_json


class TeacherProcess:
    """Runs `tasks.core.teachers.pipeline` on `work` while in the `with` block.

    It has a process group of its own. On leaving the block, for whatever reason (Ctrl-C, SIGTERM, an error), the whole
    group is killed at once: every shard is committed by a rename, so there is nothing to be gentle about.
    """

    def __init__(self, work: Path, teacher: Mapping[str, Any], num_workers: int) -> None:
        self.work = work
        (work / "failure.json").unlink(missing_ok=True)
        write_json(work / "teacher.json", {"teacher": dict(teacher), "num_workers": num_workers})

    def __enter__(self) -> "TeacherProcess":
        # distilabel ends by loading its receipts with `datasets`: that cache belongs in our scratch, not in $HOME.
        environment = {"DISTILABEL_LOG_LEVEL": "WARNING", "HF_DATASETS_CACHE": str(self.work / "datasets")}
        command = [sys.executable, "-W", "ignore", "-m", "tasks.core.teachers.pipeline", str(self.work)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, start_new_session=True, env={**environment, **os.environ}
        )
        return self

    def is_running(self) -> bool:
        """Whether it is at work. Raises what went wrong: UserError, or RuntimeError for a crash."""
        exit_code = self._process.poll()
        failure_path = self.work / "failure.json"
        if failure_path.is_file():
            failure = read_json(failure_path)
            if failure["is_user_error"]:
                raise UserError(failure["message"])
            raise RuntimeError(f"the teacher crashed:\n{failure['traceback']}")
        if exit_code:
            how = f"was ended by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
            raise RuntimeError(f"the teacher process {how}; its messages stand above; committed shards are kept")
        return exit_code is None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ended by itself and left nobody behind
        self._process.wait()
