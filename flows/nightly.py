"""The Prefect flow `nightly`: reproduce recipes, hold their scores against targets, keep the verdicts in a ledger.

Every stage is built anew, so that tonight's code, packages and machine are what is tested. A verdict is pass,
regressed, inconclusive or failed (flows/night_verdict.py); the ledger is <store>/nights (tasks/core/store/nights.py).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, State

from flows.night import NightShift
from flows.night_verdict import Gate
from flows.nights_view import write_page
from flows.notify import load_blocks, notify_all, notify_broken
from flows.plan import Plan, make_plan
from flows.recipe import load_recipe
from flows.reproduce import TERMINAL
from flows.targets import TargetRow, load_targets
from tasks.core.errors import UserError
from tasks.core.spelling import nearest
from tasks.core.store import Store, check_writable, store_root
from tasks.core.store.nights import Night, Verdict, next_number

BAD = (Verdict.REGRESSED, Verdict.FAILED)


@flow(name="nightly", validate_parameters=False)
def nightly(
    recipes: list[str] | None = None,
    targets: str | None = None,
    overrides: list[str] | None = None,
    store: str | None = None,
    launch: str = "local",
    cluster: str | None = None,
    jobs: int | None = None,
    fresh_seed: bool = False,
    drop: float = 0.05,
    nights_between_alarms: float = 1000.0,
    max_extra_samples: int = 0,
    price_per_gpu_hour: float | None = None,
    notify: list[str] | None = None,
) -> State[Any]:
    """Judge the rows of `targets` (a file's path; recipes/targets.yaml when left out) whose recipe is in `recipes`;
    without `recipes` all rows of a file of your own.

    `overrides` are --set texts for every recipe. `fresh_seed` trains with a seed of this night's own, else with the
    recipe's, which says less of the method and more of the code. `drop`: the smallest loss that must not pass.
    `max_extra_samples` of each question are drawn at most where a night is inconclusive and they would decide.
    `notify` names notification blocks of Prefect, such as slack-webhook/team, that hear of every verdict but pass.
    Ends as Failed when a verdict is regressed or failed. Raises UserError before anything runs when a target fits no
    recipe or a block is not there.
    """
    root = store_root(store)
    check_writable(root)
    rows = _chosen(load_targets(Path(targets) if targets else None), recipes, all_are_meant=targets is not None)
    plans = {name: _plan(name, rows, overrides or [], next_number(root), fresh_seed) for name in _recipes(rows)}
    rows = [row for row in rows if row.seed in (None, plans[row.recipe].recipe.seed)]
    blocks = load_blocks(notify or [])
    shift = NightShift(
        store=Store(root),
        gate=Gate(drop, nights_between_alarms, looks=2 if max_extra_samples else 1),
        where={"store": str(root), "launch": launch, "cluster": cluster, "jobs": jobs},
        max_extra_samples=max_extra_samples,
        price_per_gpu_hour=price_per_gpu_hour,
    )
    nights: list[Night] = []
    try:
        for name in _recipes(rows):
            for night in shift.judge(plans[name], [row for row in rows if row.recipe == name]):
                _publish(night)
                nights.append(night)
        write_page(Store(root))
    except Exception as error:  # the ledger cannot be written: somebody must hear of that too
        notify_broken(blocks, error)
        raise
    finally:
        notify_all(blocks, [night for night in nights if night.verdict is not Verdict.PASSED])
    return _final_state(nights)


def _recipes(rows: Sequence[TargetRow]) -> list[str]:
    return list(dict.fromkeys(row.recipe for row in rows))


def _chosen(rows: Sequence[TargetRow], recipes: Sequence[str] | None, *, all_are_meant: bool) -> list[TargetRow]:
    """The rows of `recipes`; all of a user's own file for None. Raises UserError for a recipe without a row."""
    known = _recipes(rows)
    if not recipes and not all_are_meant:
        raise UserError(f"name the recipes to reproduce; those that have a target: {', '.join(known)}.")
    for name in recipes or []:
        if name not in known:
            raise UserError(f"recipe {name} has no target{nearest(name, known)}; those that have: {', '.join(known)}.")
    return [row for row in rows if not recipes or row.recipe in recipes]


def _plan(recipe: str, rows: Sequence[TargetRow], overrides: Sequence[str], number: int, fresh_seed: bool) -> Plan:
    """The recipe as it is run tonight: answers are sampled with the number of the next night as their seed, and with
    `fresh_seed` the training has one of its own too. Raises UserError for a row that fits no evaluate stage, and where
    every row is of another seed."""
    settings = list(overrides)
    if fresh_seed:
        settings.append(f"seed={load_recipe(recipe, settings).seed + number}")
    plan = make_plan(load_recipe(recipe, settings))
    mine = [row for row in rows if row.recipe == recipe]
    for row in mine:
        _refuse_misfit(row, plan)
    if all(row.seed not in (None, plan.recipe.seed) for row in mine):
        raise UserError(
            f"every target of {recipe} is of another seed than {plan.recipe.seed}: leave fresh_seed and seed=... out, "
            "or add a target without a seed."
        )
    settings += [f"{stage}.seed={number}" for stage in dict.fromkeys(row.stage for row in mine)]
    return make_plan(load_recipe(recipe, settings))


def _refuse_misfit(row: TargetRow, plan: Plan) -> None:
    names = [stage.name for stage in plan.stages if stage.spec.stage.name == "evaluate"]
    if row.stage not in names:
        raise UserError(
            f"the target {row.name} names no evaluate stage of the recipe{nearest(row.stage, names)}; it has "
            f"{', '.join(names) or 'none'}."
        )


def _publish(night: Night) -> None:
    """To the terminal or the flow's log, to Prefect's artifacts, and as an event that an automation can wait for."""
    text = f"{night.name} {night.verdict}: {night.reason}"
    if terminal := TERMINAL.get():
        terminal.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        get_run_logger().info(text)
    key = "night-" + "".join(one if one.isascii() and one.isalnum() else "-" for one in night.name.lower())
    lines = [f"**{night.verdict}** {night.reason}", *(f"- {change}" for change in night.changes)]
    create_markdown_artifact(key=key, markdown="\n".join(lines), description=f"night {night.number}")
    emit_event(
        event=f"r1flow.night.{night.verdict}",
        resource={"prefect.resource.id": f"r1flow.recipe.{night.recipe}", "prefect.resource.name": night.name},
        payload={"number": night.number, "text": text, "changes": night.changes},
    )


def _final_state(nights: Sequence[Night]) -> State[Any]:
    data: list[Mapping[str, Any]] = [
        night.model_dump(mode="json", include={"number", "recipe", "stage", "verdict", "reason", "run_id"})
        for night in nights
    ]
    bad = [f"{night.name} {night.verdict}: {night.reason}" for night in nights if night.verdict in BAD]
    if bad:
        return Failed(message="\n".join(bad), data=data)
    return Completed(message=", ".join(f"{one.name} {one.verdict}" for one in nights), data=data)
