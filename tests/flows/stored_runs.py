"""Artifacts and runs in a store as the flow leaves them, with invented numbers: for tests of what looks at stores."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.files import write_json
from tasks.core.store import Run, RunStage, Store, collect_provenance, fingerprint_of

STARTED_AT = "2026-01-01T00:00:00+00:00"
provenance = functools.cache(collect_provenance)


def publish(
    store: Store,
    stage: str,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    inputs: Mapping[str, str] | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Publish an artifact, `rows` as its completions.parquet; returns its fingerprint."""
    identity = {"stage": stage, "version": 1, "config": dict(config), "inputs": dict(inputs or {}), "libraries": {}}
    fingerprint = fingerprint_of(identity)
    with store.lock(stage, fingerprint) as lock:
        out = store.staging(stage, fingerprint)
        write_json(out / "metrics.json", dict(metrics))
        if rows:
            pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), out / "completions.parquet")
        facts = {"provenance": provenance(), "started_at": STARTED_AT, "wall_s": 1.0}
        store.publish(lock, identity=identity, code="", **facts)
    return fingerprint


def publish_evaluation(
    store: Store,
    right_QS: Sequence[Sequence[int]],
    *,
    benchmark: str = "countdown",
    first: int = 0,
    answer: str = "7",
    model: str = "m" * 20,
    **config: Any,
) -> str:
    """An evaluation on the questions q`first`, q`first + 1`, ..., right where `right_QS` holds a 1."""
    rows = [
        {"problem_id": f"q{first + index}", "sample": sample, "answer": answer, "completion": "\0 wait"}
        | {"verdict": "correct" if right else "wrong"}
        for index, right_S in enumerate(right_QS)
        for sample, right in enumerate(right_S)
    ]
    config = {"benchmark": benchmark, "temperature": 1.0, "max_new_tokens": 100} | config
    numbers = str([right_QS, first, answer])  # stands for the seed: other numbers, another artifact
    metrics = {"benchmark": benchmark, "accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6}
    return publish(store, "evaluate", config | {"numbers": numbers}, metrics, {"model": model}, rows)


def write_run(store: Store, run_id: str, stages: Sequence[tuple[str, str, str]], **changes: Any) -> Run:
    """A finished run; `stages` are (name, kind, fingerprint)."""
    fields: dict[str, Any] = {
        "recipe": "quickstart",
        "recipe_path": "quickstart.yaml",
        "recipe_text": "stages: {}",
        "seed": 0,
        "started_at": STARTED_AT,
        "ended_at": "2026-01-01T00:10:00+00:00",
        "state": "done",
    }
    used = [RunStage(name=name, stage=stage, fingerprint=one, state="built") for name, stage, one in stages]
    run = Run(run_id=run_id, stages=used, **fields | changes)
    store.write_run(run)
    return run


def write_many_runs(store: Store, num_runs: int) -> None:
    """Runs of five recipes and four states over forty evaluations and ten reports, which they share."""
    evaluations = [
        publish(store, "evaluate", {"index": index}, _scores(index), {"model": "m" * 20}) for index in range(40)
    ]
    reports = [publish(store, "report", {"index": index}, {"difference": index / 100}) for index in range(10)]
    for fingerprint in reports:
        (store.path("report", fingerprint) / "report.html").write_text("<!DOCTYPE html>")
    recipes = ("quickstart", "quickstart-ppo", "mini-r1", "countdown-smollm2", "deepseek-r1")
    for index in range(num_runs):
        recipe, state = recipes[index % 5], ("done", "done", "done", "failed", "cancelled")[index % 7 % 5]
        started = f"2026-{1 + index // 28 % 12:02}-{1 + index % 28:02}T{index // 336:02}:00:00+00:00"
        stages = [("eval_sft", "evaluate", evaluations[index % 40]), ("eval", "evaluate", evaluations[index * 7 % 40])]
        used = [
            RunStage(name=name, stage=stage, fingerprint=one, state="built")
            for name, stage, one in [*stages, ("report", "report", reports[index % 10])]
        ]
        run = Run(
            run_id=f"{recipe}-{index:05}", recipe=recipe, recipe_path=f"{recipe}.yaml", recipe_text="stages: {}",
            overrides=[f"seed={index}", f"grpo.max_steps={index * 3}"], seed=index, started_at=started,
            ended_at=started.replace(":00:00", ":07:33"), state=state, stages=used,
        )  # fmt: skip
        path = store.root / "runs" / run.run_id / "run.json"
        path.parent.mkdir(parents=True)
        path.write_text(run.model_dump_json(by_alias=True))


def _scores(index: int) -> dict[str, Any]:
    accuracy = index / 40
    bounds = {"accuracy_low": max(0.0, accuracy - 0.03), "accuracy_high": min(1.0, accuracy + 0.03)}
    benchmark = ("countdown", "math_500", "aime24")[index % 3]
    return {"benchmark": benchmark, "accuracy": accuracy, "num_questions": 500} | bounds
