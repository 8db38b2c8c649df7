"""From a recipe to a plan: every stage's identity and fingerprint, and whether the store has it already."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flows.recipe import Recipe
from flows.stage_spec import StageSpec
from tasks.core.errors import UserError
from tasks.core.spelling import nearest
from tasks.core.store import Hit, Store, code_hash, fingerprint_of, identity_of


@dataclass(frozen=True)
class PlannedStage:
    """A stage of the recipe with its identity."""

    spec: StageSpec
    identity: dict[str, Any]
    fingerprint: str

    @property
    def name(self) -> str:
        """The stage's name in the recipe."""
        return self.spec.name

    @property
    def upstream(self) -> tuple[str, ...]:
        """Names of the stages this one reads."""
        names: list[str] = []
        for source in self.spec.inputs.values():
            names += [source] if isinstance(source, str) else list(source)
        return tuple(dict.fromkeys(names))

    def input_paths(self, store: Store, plan: "Plan") -> dict[str, str | dict[str, str]]:
        """Input name → directory, or {stage name: directory}, as config.json holds them."""

        def path(name: str) -> str:
            stage = plan[name]
            return str(store.path(stage.spec.stage.name, stage.fingerprint))

        return {
            key: path(source) if isinstance(source, str) else {name: path(name) for name in source}
            for key, source in self.spec.inputs.items()
        }


@dataclass(frozen=True)
class Plan:
    """The stages of a recipe in order."""

    recipe: Recipe
    stages: tuple[PlannedStage, ...]

    def __getitem__(self, name: str) -> PlannedStage:
        return next(stage for stage in self.stages if stage.name == name)


def make_plan(recipe: Recipe) -> Plan:
    """Work out every fingerprint. Reads local sources (to hash them) and nothing else."""
    done: dict[str, PlannedStage] = {}
    for spec in recipe.stages:
        fingerprints = {
            key: done[source].fingerprint
            if isinstance(source, str)
            else {name: done[name].fingerprint for name in source}
            for key, source in spec.inputs.items()
        }
        try:
            identity = identity_of(spec.stage, spec.config, fingerprints, recipe.name)
        except UserError as mistake:
            raise UserError(f"stage {spec.name}: {mistake}") from mistake
        done[spec.name] = PlannedStage(spec, identity, fingerprint_of(identity))
    return Plan(recipe, tuple(done.values()))


def only_for(plan: Plan, names: Iterable[str]) -> Plan:
    """The stages called `names` and all that they are made from; the whole plan for no name.

    Raises UserError when the recipe has no such stage.
    """
    wanted = set(names)
    if not wanted:
        return plan
    _refuse_unknown("--until", plan, wanted)
    for stage in reversed(plan.stages):
        if stage.name in wanted:
            wanted |= set(stage.upstream)
    return Plan(plan.recipe, tuple(stage for stage in plan.stages if stage.name in wanted))


@dataclass(frozen=True)
class Outlook:
    """What a run would do with a stage. `seconds` is what its last build took, None when there was none."""

    stage: PlannedStage
    cached: bool
    reason: str
    seconds: float | None


def refuse_unknown_stages(plan: Plan, names: Iterable[str]) -> None:
    """Raise UserError when --rebuild names a stage that the recipe does not have."""
    _refuse_unknown("--rebuild", plan, names)


def _refuse_unknown(option: str, plan: Plan, names: Iterable[str]) -> None:
    known = [stage.name for stage in plan.stages]
    for name in sorted(set(names) - set(known)):
        raise UserError(
            f"{option} {name}: the recipe has no such stage{nearest(name, known)}; it has {', '.join(known)}."
        )


def look_ahead(plan: Plan, store: Store, rebuild: frozenset[str] = frozenset()) -> list[Outlook]:
    """For every stage: cached, or to be built and why, and roughly how long that takes.

    A glance at records and sizes; the run itself reads every byte before it believes an artifact.
    """
    history = _past_seconds(plan, store)
    outlooks = []
    for stage in plan.stages:
        found = store.glance(stage.spec.stage.name, stage.fingerprint)
        if stage.name in rebuild:
            outlooks.append(Outlook(stage, False, "--rebuild", history.get(stage.name)))
        elif isinstance(found, Hit):
            reason = _doubts(stage, found, rebuild)
            outlooks.append(Outlook(stage, True, reason, found.record.provenance.wall_s))
        else:
            outlooks.append(Outlook(stage, False, found.reason, history.get(stage.name)))
    return outlooks


def _doubts(stage: PlannedStage, hit: Hit, rebuild: frozenset[str]) -> str:
    """Why the user may want to build this anew although its fingerprint is the same; empty when nothing speaks for it.

    Only what the stage reads directly is looked at: a doubt about one stage is shown at that stage.
    """
    fix = f"--rebuild {stage.name} builds it anew"
    if hit.has_drifted(code_hash(stage.spec.stage)):
        return f"built by other code; {fix}"
    if rebuilt := [name for name in stage.upstream if name in rebuild]:
        return f"kept, though made from the old {' and '.join(rebuilt)}; {fix}"
    return ""


def _past_seconds(plan: Plan, store: Store) -> Mapping[str, float]:
    """Stage name → wall seconds of its last build in an earlier run of the same recipe."""
    seconds: dict[str, float] = {}
    for run in reversed(store.readable_runs()):
        if run.recipe == plan.recipe.name:
            seconds |= {stage.name: stage.wall_s for stage in run.stages if stage.state == "built"}
    return seconds
