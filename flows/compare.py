"""`r1 compare`: evaluations of the same benchmark by two runs, paired on the questions that both asked.

A question is its problem_id with its reference answer: two data sets may number their problems alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.report.evaluations import RIGHT, is_swept
from tasks.core.sample_size import Needed, needed
from tasks.core.statistics import Estimate, clustered_mean, paired_difference
from tasks.core.store import DamagedRecord, Record, Run, Store, read_record
from tasks.core.store.explain import explain
from tasks.core.store.refs import find

COLUMNS = ("problem_id", "sample", "answer", "verdict")

Question = tuple[str, str]


@dataclass(frozen=True)
class Evaluation:
    """One artifact of the stage evaluate. `name` is the recipe's; `ref` is what `r1 show` takes."""

    name: str
    ref: str
    path: Path
    record: Record

    @property
    def benchmark(self) -> str:
        """As the recipe names it."""
        return str(self.record.metrics.get("benchmark"))

    @property
    def is_swept(self) -> bool:
        """Whether it is one point of a learning or budget curve."""
        return is_swept(self.record.metrics)

    @property
    def is_greedy(self) -> bool:
        """Whether sampling again would give the same completions."""
        return bool(self.record.identity["config"].get("temperature") == 0)


@dataclass(frozen=True)
class Comparison:
    """Two evaluations on the `difference.num_questions` questions that both asked; the difference is `after - before`.

    `num_left_out` questions were asked by one of them only. `own_changes` are the settings of the evaluations that
    differ: of like with like there are none. `causes` is how what they evaluate came to differ.
    """

    before: Evaluation
    after: Evaluation
    score_before: Estimate
    score_after: Estimate
    difference: Estimate
    needed: Needed
    num_left_out: int
    own_changes: list[str]
    causes: list[str]


@dataclass(frozen=True)
class Compared:
    """All comparisons of `before` with `after`, as the user named them, and in words what was not compared."""

    before: str
    after: str
    comparisons: list[Comparison]
    notes: list[str]


def compare(store: Store, before: str, after: str) -> Compared:
    """Compare two runs, or evaluations. Raises UserError for unknown names and where there is nothing to compare."""
    sides = evaluations_of(store, before), evaluations_of(store, after)
    pairs, alone = pair_up(*sides)
    if not pairs:
        offers = ["; ".join(f"{one.ref} is on {one.benchmark}" for one in side) for side in sides]
        raise UserError(
            f"{before!r} and {after!r} have no benchmark in common: {' / '.join(offers)}. Accuracies on different "
            "benchmarks cannot be compared: evaluate both on the same one."
        )
    comparisons, notes = [], [f"{one.ref} has no counterpart on {one.benchmark}." for one in alone]
    for old, new in pairs:
        if old.record.fingerprint == new.record.fingerprint:
            notes.append(f"{old.ref} and {new.ref} are one artifact, evaluate/{old.record.fingerprint}.")
        elif comparison := _compare_pair(store, old, new):
            comparisons.append(comparison)
        else:
            notes.append(
                f"{old.ref} and {new.ref} asked different questions of {old.benchmark}: none has the same problem_id "
                "and reference answer in both. Evaluate both on the same `problems`."
            )
    if not comparisons and any("different questions" in note for note in notes):
        raise UserError(" ".join(notes))
    return Compared(before, after, comparisons, notes)


def evaluations_of(store: Store, ref: str) -> list[Evaluation]:
    """The evaluations that `ref` names: all of a run's that are in the store, or the one. Raises UserError for none."""
    found = find(store, ref)
    if isinstance(found, Path):
        if found.parent.name != "evaluate":
            raise UserError(
                f"{ref!r} is {found.parent.name}/{found.name}, not an evaluation: give a run, RUN:STAGE with an "
                "evaluate stage of it, or the fingerprint of one."
            )
        name = ref.partition(":")[2] or found.name
        return [Evaluation(name, ref if ":" in ref else f"evaluate/{found.name}", found, _believable(found))]
    stages = [one for one in found.stages if one.stage == "evaluate"]
    paths = [(one, store.path("evaluate", one.fingerprint)) for one in stages]
    evaluations = [
        Evaluation(one.name, f"{found.run_id}:{one.name}", path, _believable(path))
        for one, path in paths
        if path.exists()
    ]
    if not evaluations:
        raise UserError(_no_evaluation(found, store))
    return evaluations


def pair_up(
    before: Sequence[Evaluation], after: Sequence[Evaluation]
) -> tuple[list[tuple[Evaluation, Evaluation]], list[Evaluation]]:
    """Pairs on one benchmark, and what is left alone. Evaluations of the same name go together; of the others, counted
    from the end of each recipe, the last with the last: it is the final model's. Points of a learning or budget curve
    go together by name alone."""
    pairs: list[tuple[Evaluation, Evaluation]] = []
    left, right = list(before), list(after)
    for old in before:
        new = next((one for one in right if (one.name, one.benchmark) == (old.name, old.benchmark)), None)
        if new:
            pairs.append((old, new))
            left.remove(old)
            right.remove(new)
    for old in reversed(left.copy()):
        new = next((one for one in reversed(right) if one.benchmark == old.benchmark and not one.is_swept), None)
        if new and not old.is_swept:
            pairs.append((old, new))
            left.remove(old)
            right.remove(new)
    return sorted(pairs, key=lambda pair: before.index(pair[0])), [*left, *right]


def _compare_pair(store: Store, before: Evaluation, after: Evaluation) -> Comparison | None:
    """None when they share no question."""
    old, new = _read_right(before), _read_right(after)
    shared = [question for question in old if question in new]
    if not shared:
        return None
    before_QS, after_QS = [old[one] for one in shared], [new[one] for one in shared]
    difference = paired_difference(after_QS, before_QS)
    changes = explain(store, before.record, after.record)
    own = [one for one in changes if not one.chain and not one.key.startswith("inputs.")]
    return Comparison(
        before=before,
        after=after,
        score_before=clustered_mean(before_QS),
        score_after=clustered_mean(after_QS),
        difference=difference,
        needed=needed(after_QS, before_QS, difference),
        num_left_out=len(old.keys() ^ new.keys()),
        own_changes=[str(one) for one in own],
        causes=[str(one) for one in changes if one not in own],
    )


def _read_right(evaluation: Evaluation) -> dict[Question, list[float]]:
    """Zeros and ones of every question, in the order of the samples."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = evaluation.path / "completions.parquet"
    try:
        columns = pq.ParquetFile(path).read(list(COLUMNS)).to_pydict()  # read_table would import pandas: two seconds
        rows = sorted(zip(*(columns[name] for name in COLUMNS), strict=True), key=lambda row: (str(row[0]), row[1]))
    except (OSError, KeyError, pa.ArrowException) as error:
        reason = f"no column {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise UserError(
            f"{evaluation.ref}: {path} cannot be read ({reason}): `r1 verify` says whether the artifact is damaged; "
            "the next run of its recipe rebuilds it."
        ) from None
    right: dict[Question, list[float]] = {}
    for problem_id, _, answer, verdict in rows:
        right.setdefault((str(problem_id), str(answer)), []).append(float(verdict in RIGHT))
    return right


def _believable(path: Path) -> Record:
    try:
        return read_record(path)
    except DamagedRecord as error:
        raise UserError(
            f"evaluate/{path.name} cannot be compared: {error}. Run its recipe again to rebuild it."
        ) from None


def _no_evaluation(run: Run, store: Store) -> str:
    states: dict[str, Any] = {one.name: one.state for one in run.stages if one.stage == "evaluate"}
    if not states:
        return (
            f"run {run.run_id} has nothing to compare: recipe {run.recipe} has no stage of kind evaluate. "
            "Add one, and run it again: the trained stages are reused."
        )
    listed = ", ".join(f"{name} ({state})" for name, state in states.items())
    return (
        f"run {run.run_id} has nothing to compare: none of its evaluations is in {store.root}: {listed}. "
        "Run the recipe again to build them."
    )
