"""`r1`: the command line. Heavy imports happen inside the commands, so that --help answers at once."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks.core.errors import UserError

if TYPE_CHECKING:
    from flows.plan import Outlook, Plan
    from tasks.core.store import Store

EXIT_OK, EXIT_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130

CLUSTER_HELP = "a cluster profile's path, or the name of one in slurm/profiles/ (default: $R1_CLUSTER, else default)"
AUDIT_HELP = (
    "JSONL with gold, is_right (true or false), and completion (the model's text) or answer (its final answer alone); "
    "if you like also category, question, why, is_cut_off (default: the project's own two sets)"
)
SMOKE_HELP = "the same recipe with a tiny model and a handful of rows: no GPU, no network, about a minute, no result"
STORE_HELP = "where artifacts lie (default: $R1_STORE, else ./artifacts)"

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
    parser.add_argument("--store", metavar="DIR", help=STORE_HELP)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, command: Command) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--store", metavar="DIR", help=STORE_HELP, default=argparse.SUPPRESS)
        sub.set_defaults(command=command)
        return sub

    run = add("run", "run a recipe: build what the store lacks, reuse the rest", _run)
    plan = add("plan", "show what a run would reuse and build", _plan)
    doctor = add("doctor", "say what a recipe's trainings need, and what of it cannot work", _doctor)
    for sub in (run, plan, doctor):
        sub.add_argument("recipe", help="a recipe's path, or the name of one in recipes/")
        sub.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                         help="change one value of the recipe, such as grpo.max_steps=4; may be repeated")  # fmt: skip
    for sub in (run, plan):
        sub.add_argument("--rebuild", action="append", default=[], metavar="STAGE", help="build this stage anew")
        sub.add_argument("--smoke", action="store_true", help=SMOKE_HELP)
    run.add_argument("--dry-run", action="store_true", help="print the plan and every stage's command, run nothing")
    run.add_argument(
        "--jobs", type=_at_least(1), help="how many stages may run at a time (default: 1; with slurm, all)"
    )
    for sub in (run, doctor):
        sub.add_argument(
            "--launch", choices=("local", "slurm"), default="local", help="where stages run (default: local)"
        )
    run.add_argument("--cluster", metavar="PROFILE", help=CLUSTER_HELP)
    doctor.add_argument("--probe", action="store_true", help="also sample a few problems with the real model")
    doctor.add_argument("--gpu-memory-gb", type=_above_zero, metavar="GIB", help="of one GPU (default: the one here)")
    add("recipes", "list the recipes", _recipes)
    add("jobs", "list what runs or waits for which artifact, here and in Slurm's queue", _jobs)
    cluster = add("cluster", "show the cluster profile that --launch slurm would use", _cluster)
    cluster.add_argument("profile", nargs="?", help=CLUSTER_HELP)
    cluster.add_argument("--script", action="store_true", help="print only the lines of shell that a job begins with")
    listing = add("ls", "list the artifacts in the store", _ls)
    listing.add_argument("--runs", action="store_true", help="list the runs instead")
    show = add("show", "show an artifact or a run", _show)
    show.add_argument("ref", help="fingerprint, its beginning, stage/fingerprint, run id or run id:stage")
    explain = add("explain", "say which field makes two artifacts, or two runs, differ", _explain)
    explain.add_argument("before", metavar="A")
    explain.add_argument("after", metavar="B")
    verify = add("verify", "hash artifacts again and say which are damaged", _verify)
    verify.add_argument("refs", nargs="*", help="as in show; all artifacts when left out")
    audit = add("audit", "say how often the verifier is wrong, on labelled pairs of gold and completion", _audit)
    audit.add_argument("file", nargs="?", metavar="FILE", help=AUDIT_HELP)
    audit.add_argument(
        "--judge-url", metavar="URL", help="ask this OpenAI-compatible endpoint about what the rules reject"
    )
    audit.add_argument("--judge-model", metavar="NAME", help="the name under which it serves the judge")
    audit.add_argument("--workers", type=_at_least(1), default=1, metavar="N", help="verifier processes (default 1)")
    audit.add_argument("--json", action="store_true", help="print JSON, with every wrong verdict in full")
    gc = add("gc", "delete artifacts that no kept run uses", _gc)
    gc.add_argument(
        "--keep-runs", type=_at_least(0), default=10, metavar="N", help="keep the newest N runs (default 10)"
    )
    gc.add_argument("--dry-run", action="store_true", help="only list what would go")
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a whole number, {least} or more")
        return int(text)

    return number


def _above_zero(text: str) -> float:
    value = float(text)  # argparse turns its ValueError into a message
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a number above 0")
    return value


def _store(arguments: argparse.Namespace) -> "Store":
    from tasks.core.store import Store, store_root

    return Store(store_root(arguments.store))


def _plan(arguments: argparse.Namespace) -> int:
    _print_plan(arguments, _store(arguments))
    return EXIT_OK


def _print_plan(arguments: argparse.Namespace, store: "Store") -> "tuple[Plan, list[Outlook]]":
    from rich.console import Console

    from flows.plan import look_ahead, make_plan, refuse_unknown_stages
    from flows.recipe import load_recipe
    from flows.view import print_plan

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.smoke:
        from flows.smoke import smoke

        recipe, changes = smoke(recipe, store.root)
        print("\n".join(changes))
    plan = make_plan(recipe)
    refuse_unknown_stages(plan, arguments.rebuild)
    outlooks = look_ahead(plan, store, frozenset(arguments.rebuild))
    print_plan(Console(), plan, outlooks)
    return plan, outlooks


def _run(arguments: argparse.Namespace) -> int:
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


def _doctor(arguments: argparse.Namespace) -> int:
    from flows.doctor import examine
    from flows.plan import make_plan
    from flows.recipe import load_recipe

    plan, store = make_plan(load_recipe(arguments.recipe, arguments.overrides)), _store(arguments)
    is_well = examine(plan, store, arguments.launch, arguments.gpu_memory_gb, with_probe=arguments.probe)
    return EXIT_OK if is_well else EXIT_USER_ERROR


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


def _jobs(arguments: argparse.Namespace) -> int:
    from flows.jobs import list_jobs

    list_jobs(_store(arguments))
    return EXIT_OK


def _cluster(arguments: argparse.Namespace) -> int:
    from flows.profile import load_profile

    profile = load_profile(arguments.profile)
    if not arguments.script:
        print(profile.model_dump_json(indent=2, exclude_unset=True))
    print(profile.setup_script(sys.executable), end="")
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


def _audit(arguments: argparse.Namespace) -> int:
    from flows.audit import audit

    if (arguments.judge_url is None) != (arguments.judge_model is None):
        raise UserError("--judge-url and --judge-model go together: give both, or neither.")
    audit(arguments.file, arguments.judge_url, arguments.judge_model, arguments.workers, arguments.json)
    return EXIT_OK


def _gc(arguments: argparse.Namespace) -> int:
    from flows import inspect

    inspect.collect_garbage(_store(arguments), keep_runs=arguments.keep_runs, dry_run=arguments.dry_run)
    return EXIT_OK
