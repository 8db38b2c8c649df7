"""`r1 doctor`: what a recipe's trainings need and what cannot work, stage by stage; with --probe also samples."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows.plan import Plan, PlannedStage, look_ahead
from flows.preflight import Checkup, Machine, check_stage, this_machine, training_of
from flows.preflight_inputs import fetch_configs, stored
from tasks.core.errors import UserError
from tasks.core.preflight.memory import Estimate
from tasks.core.preflight.probe import Probe, Sampled, Scores, read_sampled, write_job
from tasks.core.preflight.training import Training
from tasks.core.preflight.verdict import judge
from tasks.core.store import Store

NUM_PROMPTS, MAX_GENERATIONS = 8, 8
PROBED = "tasks.core.preflight.probe"
MAX_SHOWN_CHARS = 1500
WIDTH_IN_A_PIPE = 160
STYLES = {"refuse": "bold red", "warn": "yellow", "note": "", "will not learn": "bold red", "watch": "yellow"}
STYLES["fine"] = "green"


def examine(plan: Plan, store: Store, launch: str, gpu_gb: float | None, *, with_probe: bool) -> bool:
    """Print what there is to say of every training and every GPU stage. Returns whether nothing speaks against a run.

    Raises UserError where the probe has no model or no problems to sample, and where its process fails.
    """
    console = _console()
    machine = this_machine(launch, gpu_gb)
    is_well = True
    for problem in fetch_configs(plan, store):
        console.print(problem, style=STYLES["warn"])
    for outlook in look_ahead(plan, store):
        stage = outlook.stage
        if training_of(stage) is None and not stage.spec.resources.gpus:
            continue
        checkup = check_stage(plan, stage, store, machine)
        if checkup.findings:
            _print_checkup(console, checkup, machine, " (in the store already)" * outlook.cached)
        is_well &= not checkup.of("refuse")
    if with_probe:
        is_well &= _probe_all(console, plan, store)
    hint = " With --launch slurm, what only this machine lacks is a warning." if machine.is_here else ""
    console.print("Nothing speaks against it." if is_well else f"This cannot work as it is.{hint}")
    return is_well


def _console() -> Console:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if console.is_terminal:
        return console
    return Console(highlight=False, markup=False, soft_wrap=True, width=WIDTH_IN_A_PIPE)


def _print_checkup(console: Console, checkup: Checkup, machine: Machine, remark: str) -> None:
    console.print(f"{checkup.name}{remark}", style="bold")
    for level in ("note", "warn", "refuse"):
        for text in checkup.of(level):
            console.print(f"  {'' if level == 'note' else level + ': '}{text}", style=STYLES[level])
    if checkup.estimate:
        _print_estimate(console, checkup.estimate, machine.gpu_gb)
    console.print()


def _print_estimate(console: Console, estimate: Estimate, gpu_gb: float | None) -> None:
    table = Table(box=None, pad_edge=True)
    for column in ("GiB a GPU, estimated", "", "while", "from"):
        table.add_column(column, justify="right" if not column else "left")
    for part in estimate.parts:
        table.add_row(part.name, f"{part.gb:.2f}", part.phase, part.how)
    of = f" of {gpu_gb:g}" if gpu_gb else ""
    table.add_row("in all", f"{estimate.peak_gb:.2f}", "at most", f"give or take a fifth{of}", style="bold")
    console.print(table, soft_wrap=False)


def _probe_all(console: Console, plan: Plan, store: Store) -> bool:
    stages = [(one, training) for one in plan.stages if (training := training_of(one)) and training.has_rollouts]
    if not stages:
        raise UserError("--probe samples for train_grpo and train_ppo, and the recipe has neither.")
    results = [_probe(console, plan, stage, training, store) for stage, training in stages]
    if all(result is None for result in results):
        raise UserError(
            f"--probe found no stage whose model and problems are both in the store {store.root}: `r1 run` builds the "
            "stages in order, and what is built stays when you stop it (Ctrl-C) as the training begins; then probe."
        )
    return all(result is not False for result in results)


def _probe(console: Console, plan: Plan, stage: PlannedStage, training: Training, store: Store) -> bool | None:
    """Sample for one stage and print; None where an input is missing."""
    model, problems = (stored(plan, stage, key, store) for key in ("model", "problems"))
    if model is None or problems is None:
        missing = [str(stage.spec.inputs[key]) for key, path in (("model", model), ("problems", problems)) if not path]
        console.print(f"{stage.name}: not probed, {' and '.join(missing)} not built yet", style="yellow")
        return None
    probe = Probe(
        model=str(model / "model"),
        problems=str(problems / "problems.parquet"),
        rewards=training.rewards,
        num_prompts=NUM_PROMPTS,
        num_generations=min(training["num_generations"], MAX_GENERATIONS),
        sampling=_sampling(training),
        seed=getattr(stage.spec.config, "seed", 0),
    )
    console.print(f"{stage.name}: sampling {NUM_PROMPTS} problems x {probe.num_generations} …")
    sampled = _run_probe(stage.name, probe)
    lines = judge(sampled, dict(training.rewards), is_ppo=training.kind == "ppo")
    _print_sampled(console, sampled)
    for outlook, text in lines:
        console.print(f"  {outlook}: {text}", style=STYLES[outlook])
    return all(outlook != "will not learn" for outlook, _ in lines)


def _sampling(training: Training) -> Mapping[str, object]:
    keys = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return {key: training[key] for key in keys} | {"max_new_tokens": training["max_completion_length"]}


def _run_probe(name: str, probe: Probe) -> Sampled:
    with tempfile.TemporaryDirectory(prefix="r1-probe-") as work:
        write_job(Path(work), probe)
        done = subprocess.run([sys.executable, "-m", PROBED, work], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            tail = "\n".join(done.stderr.strip().splitlines()[-15:])
            raise UserError(f"stage {name} cannot be probed (exit code {done.returncode}): {tail}")
        return read_sampled(Path(work))


def _print_sampled(console: Console, sampled: Sampled) -> None:
    console.print(f"  prompt as the model sees it:\n{_cut(sampled.rendered)}", style="dim")
    console.print(f"  a completion:\n{_cut(sampled.completion)}", style="dim")
    cap = f" (the recipe: {sampled.wanted_tokens})" if sampled.wanted_tokens != sampled.max_new_tokens else ""
    console.print(
        f"  {sampled.device}: {sampled.tokens_per_s:.0f} tokens/s; {sampled.mean_tokens:.0f} tokens a completion, "
        f"{sampled.share_truncated:.0%} cut at {sampled.max_new_tokens}{cap}; {sampled.share_no_answer:.0%} without an "
        f"answer; {sampled.share_equal_groups:.0%} of the groups with equal rewards"
    )
    table = Table(box=None, pad_edge=True)
    for column in ("reward", "mean", "least", "most", "not scored"):
        table.add_column(column, justify="left" if column == "reward" else "right")
    for name, scores in sampled.rewards.items():
        table.add_row(name + ("" if scores.in_recipe else " (not in the recipe)"), *_shown(scores))
    table.add_row("weighted sum", *_shown(sampled.total), style="bold")
    console.print(table, soft_wrap=False)


def _shown(scores: Scores) -> tuple[str, ...]:
    numbers = ("-" if one is None else f"{one:.3f}" for one in (scores.mean, scores.least, scores.most))
    return (*numbers, str(scores.num_none))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]} …"
