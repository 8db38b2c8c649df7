"""`r1 run`: the flow in this process, shown on the terminal."""

import signal
import sys
import threading
import time
from typing import Any

from prefect import flow
from prefect.exceptions import TerminationSignal
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, State
from rich.console import Console

from flows.build import StageFailed
from flows.commands import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USER_ERROR
from flows.plan import Plan
from flows.reproduce import Paused, RunFailed, run_plan
from flows.server import OwnServer
from flows.view import RunView, print_results
from slurm.job import TRY_AGAIN, Launcher
from tasks.core.errors import UserError
from tasks.core.store import LockLost, Store

EXIT_TERMINATED = 128 + signal.SIGTERM


def run_in_terminal(
    plan: Plan,
    store: Store,
    launcher: Launcher,
    rebuild: frozenset[str],
    jobs: int | None,
    server: OwnServer | None,
) -> int:
    """Run the plan; returns the exit code. `server` is None when the environment names one.

    SIGUSR1, which Slurm sends to a job before its time limit, has the running stages save and end: exit code 75.
    """
    console, started = Console(), time.monotonic()
    exit_code, pause = EXIT_OK, threading.Event()
    signal.signal(signal.SIGUSR1, lambda signum, frame: pause.set())

    @flow(name="reproduce", flow_run_name=plan.recipe.name, validate_parameters=False)
    def reproduce() -> dict[str, Any] | State[Any]:
        nonlocal exit_code
        try:
            with RunView(console, plan) as view:
                return run_plan(plan, store, launcher, view.listen, rebuild, jobs, sys.argv, pause)
        except Paused:
            exit_code = TRY_AGAIN
        except KeyboardInterrupt:
            exit_code = EXIT_INTERRUPTED
        except TerminationSignal:
            exit_code = EXIT_TERMINATED
        return Cancelled(message="interrupted; what was done is kept")

    with temporary_settings({PREFECT_API_URL: server.api_url()} if server else {}):
        state: State[Any] = reproduce(return_state=True)
    if exit_code:
        what = "ended as it was asked to" if exit_code == TRY_AGAIN else "interrupted"
        print(f"r1: {what}; what was done is kept, and the next run goes on from there.", file=sys.stderr)
        return exit_code
    result = state.result(raise_on_failure=False)
    if isinstance(result, RunFailed):
        return _tell_failures(result)
    if isinstance(result, BaseException):
        raise result
    print_results(console, plan, result, time.monotonic() - started)
    return EXIT_OK


def _tell_failures(failed: RunFailed) -> int:
    """Print every failure once; raises the first that is neither the user's mistake nor a stage's end: our bug."""
    for failure in failed.failures:
        if not isinstance(failure, StageFailed | UserError | LockLost):
            raise failure
        print(f"r1: {failure}", file=sys.stderr)
    are_mistakes = (isinstance(one, UserError) or getattr(one, "is_user_error", False) for one in failed.failures)
    return EXIT_USER_ERROR if all(are_mistakes) else EXIT_FAILED
