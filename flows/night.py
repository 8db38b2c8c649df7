"""One recipe in one night: run it, score it, draw more samples where they would decide, write the verdicts down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from flows.night_changes import changes_between
from flows.night_verdict import Gate, Judged, judge_night, of_target
from flows.plan import Plan
from flows.reproduce import reproduce
from flows.targets import TargetRow
from tasks.core.sequential import score_of
from tasks.core.statistics import clustered_mean
from tasks.core.store import Store, read_record
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
            reason = str(error).strip() or type(error).__name__
            return [self._write(plan, row, started, Verdict.FAILED, reason) for row in rows]
        return [self._judge_row(plan, row, started, result) for row in rows]

    def _reproduce(self, plan: Plan, extra: Sequence[str] = (), **options: Any) -> dict[str, Any]:
        recipe = plan.recipe
        result: dict[str, Any] = reproduce(
            recipe=str(recipe.path), overrides=[*recipe.overrides, *extra], **self.where, **options
        )
        return result

    def _judge_row(self, plan: Plan, row: TargetRow, started: str, result: Mapping[str, Any]) -> Night:
        earlier = of_target(read_nights(self.store.root)[0], row, plan.recipe.seed)
        right = read_right(Path(result["stages"][row.stage]["path"]))
        settings: Any = plan[row.stage].spec.config
        is_greedy = settings.temperature == 0
        look = partial(self._look, row=row, earlier=earlier, seed=plan.recipe.seed, is_greedy=is_greedy)
        judged, num_extra = look(right), 0
        if judged.samples_to_pass and judged.samples_to_pass <= self.max_extra_samples:
            num_extra = judged.samples_to_pass
            more = self._draw(plan, row, num_extra, settings.seed + SEED_STEP)
            pooled = {question: [*right[question], *more[question]] for question in right}
            judged = look(pooled, first_look=judged)
        return self._write(
            plan, row, started, judged.verdict, judged.reason, judged, result, earlier=earlier, num_extra=num_extra
        )

    def _look(self, right: Right, **what: Any) -> Judged:
        right_QS = list(right.values())
        return judge_night(self.gate, score=score_of(right_QS), estimate=clustered_mean(right_QS), **what)

    def _draw(self, plan: Plan, row: TargetRow, num_samples: int, seed: int) -> Right:
        """More samples of the same questions from the same checkpoint; nothing but the evaluation is built."""
        extra = [f"{row.stage}.num_samples={num_samples}", f"{row.stage}.seed={seed}"]
        result = self._reproduce(plan, extra, until=[row.stage])
        return read_right(Path(result["stages"][row.stage]["path"]))

    def _write(
        self,
        plan: Plan,
        row: TargetRow,
        started: str,
        verdict: Verdict,
        reason: str,
        judged: Judged | None = None,
        result: Mapping[str, Any] | None = None,
        *,
        earlier: Sequence[Night] = (),
        num_extra: int = 0,
    ) -> Night:
        provenance = collect_provenance()
        gpu_hours = _gpu_hours(result) if result else 0.0
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
            run_id=result["run_id"] if result else None,
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
            cost=None if self.price_per_gpu_hour is None else gpu_hours * self.price_per_gpu_hour,
            num_extra_samples=num_extra,
        )
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


def _gpu_hours(result: Mapping[str, Any]) -> float:
    """Of the stages that this run built, a GPU counted for as long as it was held."""
    built = [Path(stage["path"]) for stage in result["stages"].values() if not stage["cached"]]
    return sum(read_record(path).provenance.gpu_s for path in built) / 3600


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
