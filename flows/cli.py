"""`r1`: the command line. Heavy imports happen inside the commands, so that --help answers at once."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from tasks.core.errors import UserError

EXIT_OK, EXIT_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130

Command = Callable[[argparse.Namespace], int]


def main() -> None:
    """Parse the command line, run the command, exit: 0 done, 1 a stage crashed, 2 your mistake, 130 Ctrl-C."""
    arguments = _parser().parse_args()
    command: Command = arguments.command
    try:
        sys.exit(command(arguments))
    except UserError as mistake:
        print(f"r1: {mistake}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except BrokenPipeError:  # `r1 ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("r1: interrupted; what was done is kept, and the next run goes on from there.", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="r1", description="R1-style reasoning training as one cached pipeline.")
    parser.add_argument("--store", metavar="DIR", help="where artifacts lie (default: $R1_STORE, else ./artifacts)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, command: Command) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    run = add("run", "run a recipe: build what the store lacks, reuse the rest", _run)
    plan = add("plan", "show what a run would reuse and build", _plan)
    for sub in (run, plan):
        sub.add_argument("recipe", help="a recipe's path, or the name of one in recipes/")
        sub.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                         help="change one value of the recipe, such as grpo.max_steps=4; may be repeated")  # fmt: skip
        sub.add_argument("--rebuild", action="append", default=[], metavar="STAGE", help="build this stage anew")
    run.add_argument("--dry-run", action="store_true", help="print the plan and every stage's command, run nothing")
    run.add_argument("--jobs", type=_positive, default=1, help="how many stages may run at a time (default 1)")
    add("recipes", "list the recipes", _recipes)
    listing = add("ls", "list the artifacts in the store", _ls)
    listing.add_argument("--runs", action="store_true", help="list the runs instead")
    show = add("show", "show an artifact or a run", _show)
    show.add_argument("ref", help="fingerprint, its beginning, stage/fingerprint, run id or run id:stage")
    explain = add("explain", "say which field makes two artifacts, or two runs, differ", _explain)
    explain.add_argument("before", metavar="A")
    explain.add_argument("after", metavar="B")
    verify = add("verify", "hash artifacts again and say which are damaged", _verify)
    verify.add_argument("refs", nargs="*", help="as in show; all artifacts when left out")
    gc = add("gc", "delete artifacts that no kept run uses", _gc)
    gc.add_argument("--keep-runs", type=int, default=10, metavar="N", help="keep the newest N runs (default 10)")
    gc.add_argument("--dry-run", action="store_true", help="only list what would go")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not allowed: give 1 or more")
    return number


def _store(arguments: argparse.Namespace) -> Any:
    from tasks.core.store import Store, store_root

    return Store(store_root(arguments.store))


def _plan(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from flows.build import refuse_unknown_stages
    from flows.plan import look_ahead, make_plan
    from flows.recipe import load_recipe
    from flows.view import print_plan

    plan = make_plan(load_recipe(arguments.recipe, arguments.overrides))
    rebuild = frozenset(arguments.rebuild)
    refuse_unknown_stages(plan, rebuild)
    print_plan(Console(), plan, look_ahead(plan, _store(arguments), rebuild))
    return EXIT_OK


def _run(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        return _dry_run(arguments)
    _plan(arguments)
    # Prefect's own log goes to its server; on the terminal it would tear the live view apart.
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    from flows.run import run_in_terminal

    return run_in_terminal(arguments.recipe, arguments.overrides, _store(arguments), arguments.rebuild, arguments.jobs)


def _dry_run(arguments: argparse.Namespace) -> int:
    from flows.plan import make_plan
    from flows.recipe import load_recipe

    _plan(arguments)
    store, plan = _store(arguments), make_plan(load_recipe(arguments.recipe, arguments.overrides))
    for stage in plan.stages:
        kind = stage.spec.stage.name
        print(f"{stage.name}: python -m tasks.{kind} {store.staging_path(kind, stage.fingerprint)}")
    return EXIT_OK


def _recipes(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from flows.recipe import list_recipes, load_recipe

    table = Table(box=None, pad_edge=False)
    for column in ("recipe", "stages", "description"):
        table.add_column(column)
    for path in list_recipes():
        recipe = load_recipe(path)
        table.add_row(recipe.name, str(len(recipe.stages)), recipe.description)
    Console().print(table)
    return EXIT_OK


def _ls(arguments: argparse.Namespace) -> int:
    from flows import inspect

    (inspect.list_runs if arguments.runs else inspect.list_artifacts)(_store(arguments))
    return EXIT_OK


def _show(arguments: argparse.Namespace) -> int:
    from flows import inspect

    inspect.show(_store(arguments), arguments.ref)
    return EXIT_OK


def _explain(arguments: argparse.Namespace) -> int:
    from flows import inspect

    inspect.explain(_store(arguments), arguments.before, arguments.after)
    return EXIT_OK


def _verify(arguments: argparse.Namespace) -> int:
    from flows import inspect

    return inspect.verify(_store(arguments), arguments.refs)


def _gc(arguments: argparse.Namespace) -> int:
    from flows import inspect

    inspect.collect_garbage(_store(arguments), keep_runs=arguments.keep_runs, dry_run=arguments.dry_run)
    return EXIT_OK
