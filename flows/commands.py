"""The commands of `r1`: each takes what was parsed and returns the exit code.

Heavy imports happen inside them, so that --help answers at once.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import UserError

if TYPE_CHECKING:
    from flows.plan import Outlook, Plan
    from tasks.core.store import Store

EXIT_OK, EXIT_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130


def _store(arguments: argparse.Namespace) -> "Store":
    from tasks.core.store import Store, store_root

    return Store(store_root(arguments.store))


def plan(arguments: argparse.Namespace) -> int:
    _print_plan(arguments, _store(arguments))
    return EXIT_OK


def _print_plan(arguments: argparse.Namespace, store: "Store") -> "tuple[Plan, list[Outlook]]":
    from rich.console import Console

    from flows.plan import look_ahead, make_plan, only_for, refuse_unknown_stages
    from flows.recipe import load_recipe
    from flows.view import print_plan

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.smoke:
        from flows.smoke import smoke

        recipe, changes = smoke(recipe, store.root)
        print("\n".join(changes))
    plan = only_for(make_plan(recipe), arguments.until)
    refuse_unknown_stages(plan, arguments.rebuild)
    outlooks = look_ahead(plan, store, frozenset(arguments.rebuild))
    print_plan(Console(), plan, outlooks)
    return plan, outlooks


def run(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        return _dry_run(arguments)
    from tasks.core.store import check_writable

    store = _store(arguments)
    check_writable(store.root)
    # Prefect's own log goes to its server; on the terminal it would tear the live view apart.
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    from flows.server import OwnServer

    server = None if os.environ.get("PREFECT_API_URL") else OwnServer()  # first: it starts while we plan
    plan, outlooks = _print_plan(arguments, store)
    from flows.launch import make_launcher
    from flows.preflight import preflight

    launcher = make_launcher(arguments.launch, arguments.cluster, plan)
    for warning in preflight(plan, outlooks, store, arguments.launch):
        print(f"r1: warning: {warning}", file=sys.stderr)
    from flows.run import run_in_terminal

    return run_in_terminal(plan, store, launcher, frozenset(arguments.rebuild), arguments.jobs, server)


def _dry_run(arguments: argparse.Namespace) -> int:
    """Print the plan and the exact commands and scripts. Starts nothing, creates nothing."""
    from flows.build import cores_per_stage, job_of
    from flows.launch import default_jobs, describe_job, describe_scripts, make_launcher

    store = _store(arguments)
    plan, outlooks = _print_plan(arguments, store)
    launcher = make_launcher(arguments.launch, arguments.cluster, plan)
    num_cpus = cores_per_stage(arguments.jobs or default_jobs(plan, launcher))
    jobs = [(outlook.stage.name, job_of(outlook.stage, store, num_cpus)) for outlook in outlooks if not outlook.cached]
    for name, job in jobs:
        for line in describe_job(launcher, job):
            print(f"{name}: {line}")
    print(describe_scripts(launcher, [job for _, job in jobs]), end="")
    return EXIT_OK


def doctor(arguments: argparse.Namespace) -> int:
    from flows.doctor import examine
    from flows.plan import make_plan
    from flows.recipe import load_recipe

    plan, store = make_plan(load_recipe(arguments.recipe, arguments.overrides)), _store(arguments)
    is_well = examine(plan, store, arguments.launch, arguments.gpu_memory_gb, with_probe=arguments.probe)
    return EXIT_OK if is_well else EXIT_USER_ERROR


def recipes(arguments: argparse.Namespace) -> int:
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


def jobs(arguments: argparse.Namespace) -> int:
    from flows.jobs import list_jobs

    list_jobs(_store(arguments))
    return EXIT_OK


def cluster(arguments: argparse.Namespace) -> int:
    from flows.profile import load_profile

    profile = load_profile(arguments.profile)
    if not arguments.script:
        print(profile.model_dump_json(indent=2, exclude_unset=True))
    print(profile.setup_script(sys.executable), end="")
    return EXIT_OK


def ls(arguments: argparse.Namespace) -> int:
    from flows import inspect

    (inspect.list_runs if arguments.runs else inspect.list_artifacts)(_store(arguments))
    return EXIT_OK


def show(arguments: argparse.Namespace) -> int:
    from flows import inspect

    inspect.show(_store(arguments), arguments.ref)
    return EXIT_OK


def explain(arguments: argparse.Namespace) -> int:
    from flows import inspect

    inspect.explain(_store(arguments), arguments.before, arguments.after)
    return EXIT_OK


def compare(arguments: argparse.Namespace) -> int:
    import json

    from flows import compare_view
    from flows.compare import compare

    compared = compare(_store(arguments), arguments.a, arguments.b)
    if arguments.form == "json":
        print(json.dumps(compare_view.as_json(compared), ensure_ascii=False, indent=2))
        return EXIT_OK
    forms = {"markdown": compare_view.as_markdown, "latex": compare_view.as_latex}
    if arguments.form:  # a table has no place for what was not compared
        print("".join(f"r1: note: {note}\n" for note in compared.notes), end="", file=sys.stderr)
    print(forms.get(arguments.form, compare_view.as_lines)(compared), end="")
    return EXIT_OK


def site(arguments: argparse.Namespace) -> int:
    from flows.site import write_site

    store = _store(arguments)
    page = write_site(store, Path(arguments.directory or store.root / "site"))
    print(f"{page.num_runs:,} run{'s' * (page.num_runs != 1)}: {page.path}")
    return EXIT_OK


def nightly(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    console = Console()
    if console.is_terminal:  # as in `run`: Prefect's log would tear the live view apart
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    from flows.nightly_run import spend_night

    keys = ("targets", "overrides", "store", "launch", "cluster", "jobs", "fresh_seed", "drop", "max_extra_samples")
    parameters = {key: getattr(arguments, key) for key in (*keys, "price_per_gpu_hour", "notify")}
    return spend_night({"recipes": arguments.recipes or None, **parameters}, console if console.is_terminal else None)


def ledger(arguments: argparse.Namespace) -> int:
    from flows.nights_view import show_ledger, write_page

    store = _store(arguments)
    if arguments.page:
        print(write_page(store))
    else:
        show_ledger(store, arguments.recipe, arguments.last, as_json=arguments.json)
    return EXIT_OK


def verify(arguments: argparse.Namespace) -> int:
    from flows import inspect

    return inspect.verify(_store(arguments), arguments.refs)


def audit(arguments: argparse.Namespace) -> int:
    from flows.audit import audit

    if (arguments.judge_url is None) != (arguments.judge_model is None):
        raise UserError("--judge-url and --judge-model go together: give both, or neither.")
    audit(arguments.file, arguments.judge_url, arguments.judge_model, arguments.workers, arguments.json)
    return EXIT_OK


def gc(arguments: argparse.Namespace) -> int:
    from flows import inspect

    inspect.collect_garbage(_store(arguments), keep_runs=arguments.keep_runs, dry_run=arguments.dry_run)
    return EXIT_OK
