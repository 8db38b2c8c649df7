"""`r1 nightly`: the flow `nightly` in this process, by hand with a live view, for cron with log lines."""

import logging
import os
import sys
from typing import Any

from prefect.settings import PREFECT_API_URL, temporary_settings
from rich.console import Console

from flows.commands import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from flows.nightly import nightly
from flows.nights_view import show_ledger
from flows.reproduce import TERMINAL
from flows.server import OwnServer
from tasks.core.store import Store, store_root


def _without_traceback(record: logging.LogRecord) -> bool:
    """A run that fails is a verdict, with its reason; where in Prefect it was raised is no news."""
    record.exc_info = record.exc_text = None
    return True


def spend_night(parameters: dict[str, Any], terminal: Console | None) -> int:
    """Spend one night, shown live on `terminal` if there is one, and print its verdicts.

    Returns the exit code, 1 where a verdict is regressed or failed. Raises UserError as the flow does.
    """
    TERMINAL.set(terminal)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_without_traceback)
    server = None if os.environ.get("PREFECT_API_URL") else OwnServer()
    with temporary_settings({PREFECT_API_URL: server.api_url()} if server else {}):
        try:
            state = nightly(**parameters, return_state=True)
        except KeyboardInterrupt:
            print("r1: interrupted; what was built is kept, and no verdict is written for it.", file=sys.stderr)
            return EXIT_INTERRUPTED
    written = state.result(raise_on_failure=False)
    if isinstance(written, BaseException):  # it ended before there was a verdict
        raise written
    show_ledger(Store(store_root(parameters["store"])), None, len(written), as_json=False)
    return EXIT_FAILED if state.is_failed() else EXIT_OK
