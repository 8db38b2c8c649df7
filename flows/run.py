"""`r1 run`: the flow in this process, shown on the terminal."""

import sys
import time
from typing import Any

from prefect import flow
from rich.console import Console

from flows.build import StageFailed, Stopped
from flows.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USER_ERROR
from flows.plan import make_plan
from flows.recipe import load_recipe
from flows.reproduce import run_plan
from flows.view import RunView, print_results
from slurm.job import USER_ERROR
from tasks.core.store import Store


def run_in_terminal(recipe: str, overrides: list[str], store: Store, rebuild: list[str], jobs: int) -> int:
    """Run the recipe; returns the exit code. Raises UserError for trouble before or between stages."""
    plan = make_plan(load_recipe(recipe, overrides))
    console = Console()
    started = time.monotonic()

    @flow(name="reproduce", flow_run_name=plan.recipe.name, validate_parameters=False)
    def reproduce() -> dict[str, Any]:
        with RunView(console, plan) as view:
            return run_plan(plan, store, view.listen, frozenset(rebuild), jobs, sys.argv)

    try:
        result = reproduce()
    except StageFailed as failure:
        print(f"r1: {failure}", file=sys.stderr)
        return EXIT_USER_ERROR if failure.end.exit_code == USER_ERROR else EXIT_FAILED
    except Stopped:
        return EXIT_INTERRUPTED
    print_results(console, plan, result, time.monotonic() - started)
    return EXIT_OK
