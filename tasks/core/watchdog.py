"""Ends a training that no longer moves, whatever its main thread hangs in."""

import faulthandler
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import psutil

from tasks.core.ending import EXIT_TRY_AGAIN, Ending
from tasks.core.status import Status

LOOKS_PER_LIMIT = 50  # how often the watchdog looks at the clock


class Watchdog:
    """Ends this process when nobody has called `beat` for `limit_minutes`, from a thread, for the main one may hang.

    The stacks of all threads go to stderr, the stage's log; status.json then says "hang", exit code 75: the same
    training may well go on from its last checkpoint. None: never.
    """

    def __init__(self, out: Path, limit_minutes: float | None) -> None:
        self.out, self.limit_minutes = out, limit_minutes
        self._last_beat = time.monotonic()
        self._is_over = threading.Event()

    def beat(self) -> None:
        """Say that the training moves."""
        self._last_beat = time.monotonic()

    def __enter__(self) -> "Watchdog":
        if self.limit_minutes is not None:
            self.beat()
            threading.Thread(target=self._watch, args=(self.limit_minutes * 60,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()

    def _watch(self, limit_s: float) -> None:
        while not self._is_over.wait(limit_s / LOOKS_PER_LIMIT):
            if time.monotonic() - self._last_beat > limit_s:
                self._give_up()

    def _give_up(self) -> None:
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        error = (
            f"no step, log row or checkpoint for {self.limit_minutes:g} minutes (health.stall_minutes); the stacks of "
            "all threads are in the log. It goes on from the last checkpoint; if a step really takes that long, raise "
            "health.stall_minutes."
        )
        print(f"error: {error}", file=sys.stderr, flush=True)
        Status.of_this_process(self.out).end(Ending(EXIT_TRY_AGAIN, "hang", error))
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(EXIT_TRY_AGAIN)
