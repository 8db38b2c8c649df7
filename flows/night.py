"""One recipe in one night: run it, score it, draw more samples where they would decide, write the verdicts down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from flows.night_changes import changes_between
from flows.night_verdict import Gate, Judged, judge_night, of_target
from flows.plan import Plan, make_plan
from flows.recipe import load_recipe
from flows.reproduce import reproduce
from flows.targets import TargetRow
from tasks.core.attempts import read_attempts, total_seconds
from tasks.core.sequential import score_of
from tasks.core.statistics import clustered_mean
from tasks.core.store import Hit, Store
from tasks.core.store.nights import Night, Verdict, append_night, read_nights
from tasks.core.store.provenance import collect_provenance
from tasks.core.verdict import Verdict as AnswerVerdict

SEED_STEP = 1_000_003  # from an evaluation's seed to that of the samples that are added to it
RIGHT = frozenset(verdict.value for verdict in AnswerVerdict if verdict.is_right)

Right = dict[str, list[float]]
"""Question to its samples' 0s and 1s."""


@dataclass(frozen=True)
class NightShift:
    """What the recipes of one night share. `where` holds the flow `reproduce`'s store, launch, cluster and jobs."""

    store: Store
    gate: Gate
    where: Mapping[str, Any]
    max_extra_samples: int
    price_per_gpu_hour: float | None

    def judge(self, plan: Plan, rows: Sequence[TargetRow]) -> list[Night]:
        """Build all of `plan` anew and judge it by `rows`, of its recipe. Returns the nights as they were written.

        Whatever ends the run, but for a cancellation, is a verdict too: failed.
        """
        started = _now()
        try:
            result = self._reproduce(plan, rebuild=[stage.name for stage in plan.stages])
        except Exception as error:  # a crash, a mistake, a server away: the next recipe has its turn
            return [self._write_failed(plan, row, started, error) for row in rows]
        return [self._judge_row(plan, row, started, result) for row in rows]

    def _reproduce(self, plan: Plan, **options: Any) -> dict[str, Any]:
        recipe = plan.recipe
        result: dict[str, Any] = reproduce(
            recipe=str(recipe.path), overrides=list(recipe.overrides), **self.where, **options
        )
        return result

    def _judge_row(self, plan: Plan, row: TargetRow, started: str, result: Mapping[str, Any]) -> Night:
        earlier = of_target(read_nights(self.store.root)[0], row, plan.recipe.seed)
        right = read_right(Path(result["stages"][row.stage]["path"]))
        settings: Any = plan[row.stage].spec.config
        is_greedy = settings.temperature == 0
        look = partial(self._look, row=row, earlier=earlier, seed=plan.recipe.seed, is_greedy=is_greedy)
        judged, num_extra, drawn = look(right), 0, None
        if judged.samples_to_pass and judged.samples_to_pass <= self.max_extra_samples:
            num_extra = judged.samples_to_pass
            extra = [f"{row.stage}.num_samples={num_extra}", f"{row.stage}.seed={settings.seed + SEED_STEP}"]
            drawn = make_plan(load_recipe(str(plan.recipe.path), [*plan.recipe.overrides, *extra]))
            try:
                samples = self._reproduce(drawn, until=[row.stage])
            except Exception as error:  # as above
                return self._write_failed(plan, row, started, error, drawn)
            more = read_right(Path(samples["stages"][row.stage]["path"]))
            judged = look({key: [*right[key], *more[key]] for key in right}, first_look=judged)
        found = {"run_id": result["run_id"], "num_extra_samples": num_extra}
        return self._write(plan, row, started, judged.verdict, judged.reason, judged, drawn, **found)

    def _look(self, right: Right, **what: Any) -> Judged:
        right_QS = list(right.values())
        return judge_night(self.gate, score=score_of(right_QS), estimate=clustered_mean(right_QS), **what)

    def _gpu_hours(self, plans: Sequence[Plan], started: str) -> float:
        """Since `started`: of what was published, and of attempts that did not get so far. A GPU counts while held."""
        since, gpu_s = datetime.fromisoformat(started), 0.0
        for stage in {stage.fingerprint: stage for plan in plans for stage in plan.stages}.values():
            kind, needs = stage.spec.stage.name, stage.spec.resources
            staging = self.store.staging_path(kind, stage.fingerprint)
            attempts, found = read_attempts(staging), self.store.glance(kind, stage.fingerprint)
            if attempts and attempts[0].started_at >= since.timestamp():
                gpu_s += total_seconds(staging) * needs.gpus * needs.num_nodes
            elif isinstance(found, Hit) and datetime.fromisoformat(found.record.provenance.started_at) >= since:
                gpu_s += found.record.provenance.gpu_s
        return gpu_s / 3600

    def _write_failed(
        self, plan: Plan, row: TargetRow, started: str, error: Exception, drawn: Plan | None = None
    ) -> Night:
        reason = str(error).strip() or type(error).__name__
        return self._write(plan, row, started, Verdict.FAILED, reason, drawn=drawn)

    def _write(
        self,
        plan: Plan,
        row: TargetRow,
        started: str,
        verdict: Verdict,
        reason: str,
        judged: Judged | None = None,
        drawn: Plan | None = None,
        **found: Any,
    ) -> Night:
        provenance = collect_provenance()
        price = self.price_per_gpu_hour
        gpu_hours = self._gpu_hours([plan, drawn] if drawn else [plan], started)
        night = Night(
            recipe=row.recipe,
            stage=row.stage,
            metric=row.metric,
            target=row.model_dump(mode="json"),
            verdict=verdict,
            reason=reason,
            score=judged.score if judged else None,
            null=judged.null if judged else None,
            e_values=list(judged.e_values) if judged else [],
            evidence=judged.evidence if judged else 0.0,
            started_at=started,
            ended_at=_now(),
            seed=plan.recipe.seed,
            overrides=list(plan.recipe.overrides),
            commit=provenance["git_commit"],
            dirty=provenance["git_dirty"],
            packages=provenance["packages"],
            hardware=provenance["hardware"],
            identities={
                stage.name: {key: value for key, value in stage.identity.items() if key != "inputs"}
                for stage in plan.stages
            },
            gpu_hours=gpu_hours,
            cost=None if price is None else price * gpu_hours,
            **found,
        )
        earlier = of_target(read_nights(self.store.root)[0], row, plan.recipe.seed)
        passed = [one for one in earlier if one.verdict is Verdict.PASSED]
        if verdict is not Verdict.PASSED and passed:
            night = night.model_copy(update={"changes": changes_between(passed[-1], night)})
        return append_night(self.store.root, night)


def read_right(artifact: Path) -> Right:
    """What an evaluation found right, by question, in the order of samples."""
    import pyarrow.parquet as pq

    table = pq.read_table(artifact / "completions.parquet", columns=["problem_id", "sample", "verdict"])
    right: Right = {}
    for row in table.sort_by([("problem_id", "ascending"), ("sample", "ascending")]).to_pylist():
        right.setdefault(row["problem_id"], []).append(float(row["verdict"] in RIGHT))
    return right


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
