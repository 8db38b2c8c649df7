"""`r1`: the command line, its words and what they mean; flows/commands.py does what they say."""

import argparse
import os
import sys
from collections.abc import Callable

from flows import commands
from flows.commands import EXIT_INTERRUPTED, EXIT_USER_ERROR
from tasks.core.errors import UserError

CLUSTER_HELP = "a cluster profile's path, or the name of one in slurm/profiles/ (default: $R1_CLUSTER, else default)"
AUDIT_HELP = (
    "JSONL with gold, is_right (true or false), and completion (the model's text) or answer (its final answer alone); "
    "if you like also category, question, why, is_cut_off (default: the project's own two sets)"
)
COMPARE_HELP = "a run id or its beginning, `latest`, or RUN:STAGE for one evaluation of a run"
FORMS = {"json": "JSON, with every number", "markdown": "a Markdown table", "latex": "a LaTeX table (booktabs)"}
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
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, command: Command) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=text, description=text)
        sub.add_argument("--store", metavar="DIR", help=STORE_HELP, default=argparse.SUPPRESS)
        sub.set_defaults(command=command)
        return sub

    run = add("run", "run a recipe: build what the store lacks, reuse the rest", commands.run)
    plan = add("plan", "show what a run would reuse and build", commands.plan)
    doctor = add("doctor", "say what a recipe's trainings need, and what of it cannot work", commands.doctor)
    for sub in (run, plan, doctor):
        sub.add_argument("recipe", help="a recipe's path, or the name of one in recipes/")
        sub.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                         help="change one value of the recipe, such as grpo.max_steps=4; may be repeated")  # fmt: skip
    for sub in (run, plan):
        sub.add_argument("--rebuild", action="append", default=[], metavar="STAGE", help="build this stage anew")
        sub.add_argument("--smoke", action="store_true", help=SMOKE_HELP)
        sub.add_argument("--until", action="append", default=[], metavar="STAGE",
                         help="only this stage and what it is made from; may be repeated")  # fmt: skip
    run.add_argument("--dry-run", action="store_true", help="print the plan and every stage's command, run nothing")
    run.add_argument(
        "--jobs", type=_at_least(1), help="most stages at a time (default: 1; with --smoke, 2; with slurm, all)"
    )
    for sub in (run, doctor):
        sub.add_argument(
            "--launch", choices=("local", "slurm"), default="local", help="where stages run (default: local)"
        )
    run.add_argument("--cluster", metavar="PROFILE", help=CLUSTER_HELP)
    doctor.add_argument("--probe", action="store_true", help="also sample a few problems with the real model")
    doctor.add_argument("--gpu-memory-gb", type=_above_zero, metavar="GIB", help="of one GPU (default: the one here)")
    add("recipes", "list the recipes", commands.recipes)
    add("jobs", "list what runs or waits for which artifact, here and in Slurm's queue", commands.jobs)
    cluster = add("cluster", "show the cluster profile that --launch slurm would use", commands.cluster)
    cluster.add_argument("profile", nargs="?", help=CLUSTER_HELP)
    cluster.add_argument("--script", action="store_true", help="print only the lines of shell that a job begins with")
    listing = add("ls", "list the artifacts in the store", commands.ls)
    listing.add_argument("--runs", action="store_true", help="list the runs instead")
    show = add("show", "show an artifact or a run", commands.show)
    show.add_argument("ref", help="fingerprint, its beginning, stage/fingerprint, run id or run id:stage")
    explain = add("explain", "say which field makes two artifacts, or two runs, differ", commands.explain)
    explain.add_argument("before", metavar="A")
    explain.add_argument("after", metavar="B")
    compare = add("compare", "say whether B scores better than A, or what would decide it", commands.compare)
    for name in ("A", "B"):
        compare.add_argument(name.lower(), metavar=name, help=COMPARE_HELP)
    form = compare.add_mutually_exclusive_group()
    for name in ("json", "markdown", "latex"):
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, help=f"print {FORMS[name]}")
    site = add("site", "write one page with all runs of the store, which opens without a server", commands.site)
    site.add_argument("directory", nargs="?", metavar="DIR", help="where to write index.html (default: STORE/site)")
    _add_nights(add)
    verify = add("verify", "hash artifacts again and say which are damaged", commands.verify)
    verify.add_argument("refs", nargs="*", help="as in show; all artifacts when left out")
    audit = add(
        "audit", "say how often the verifier is wrong, on labelled pairs of gold and completion", commands.audit
    )
    audit.add_argument("file", nargs="?", metavar="FILE", help=AUDIT_HELP)
    audit.add_argument(
        "--judge-url", metavar="URL", help="ask this OpenAI-compatible endpoint about what the rules reject"
    )
    audit.add_argument("--judge-model", metavar="NAME", help="the name under which it serves the judge")
    audit.add_argument("--workers", type=_at_least(1), default=1, metavar="N", help="verifier processes (default 1)")
    audit.add_argument("--json", action="store_true", help="print JSON, with every wrong verdict in full")
    gc = add("gc", "delete artifacts that no kept run uses", commands.gc)
    gc.add_argument(
        "--keep-runs", type=_at_least(0), default=10, metavar="N", help="keep the newest N runs (default 10)"
    )
    gc.add_argument("--dry-run", action="store_true", help="only list what would go")
    return parser


def _add_nights(add: Callable[[str, str, Command], argparse.ArgumentParser]) -> None:
    nightly = add("nightly", "reproduce recipes, hold their scores against targets, write the verdicts down",
                  commands.nightly)  # fmt: skip
    nightly.add_argument("recipes", nargs="*", metavar="RECIPE",
                         help="recipes that have a target (default: all of --targets)")  # fmt: skip
    nightly.add_argument("--targets", metavar="FILE", help="rows of your own (default: recipes/targets.yaml)")
    nightly.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                         help="change one value of every recipe; may be repeated")  # fmt: skip
    nightly.add_argument("--fresh-seed", action="store_true", help="train with a seed of this night's own")
    nightly.add_argument("--drop", type=_above_zero, default=0.05, metavar="SHARE",
                         help="the smallest loss of score that must not pass (default 0.05)")  # fmt: skip
    nightly.add_argument("--max-extra-samples", type=_at_least(0), default=0, metavar="N",
                         help="samples of a question to draw at most where they would decide (default 0)")  # fmt: skip
    nightly.add_argument("--price-per-gpu-hour", type=_above_zero, metavar="PRICE", help="for the ledger's cost")
    nightly.add_argument("--notify", action="append", metavar="BLOCK", help="a notification block of Prefect's")
    nightly.add_argument("--launch", choices=("local", "slurm"), default="local", help="where stages run")
    nightly.add_argument("--cluster", metavar="PROFILE", help=CLUSTER_HELP)
    nightly.add_argument("--jobs", type=_at_least(1), help="most stages at a time (default: 1; with slurm, all)")
    ledger = add("ledger", "list the verdicts of the nights", commands.ledger)
    ledger.add_argument("recipe", nargs="?", help="of one recipe (default: all)")
    ledger.add_argument("--last", type=_at_least(1), metavar="N", help="only the last N")
    ledger.add_argument("--json", action="store_true", help="print JSON, with everything that was written down")
    ledger.add_argument("--page", action="store_true", help="write STORE/nights/index.html, with a plot a target")


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
