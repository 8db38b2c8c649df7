"""Which questions an evaluation asks."""

import hashlib
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError

TASKS = ("countdown", "math")
BUILT_IN = {
    "math_500": "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
    "aime24": "2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
    "aime25": "6f71d77b0b89b9dabe07ab466c51df33f514df7f",
    "gpqa_diamond": "633f5ee89ab8ad4522a9f850766b73f62147ffdd",
    "gsm8k": "740312add88f781978c0658806c59bc2815b9866",
    "lcb": None,
}
"""lighteval's own benchmarks (tasks/core/harness/benchmarks.py), and a commit of the data set where we know one."""


def read_problems(path: Path, num_questions: int | None) -> list[dict[str, Any]]:
    """The eval split, or a part of it. Raises UserError when it is empty, too small or not of one known task."""
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError(f"evaluate: {path} does not exist: give as `problems` a prepare_data stage.")
    rows = [row for row in pq.read_table(path).to_pylist() if row["split"] == "eval"]
    if not rows:
        raise UserError(f'evaluate: {path} has no problem in split "eval": raise num_eval in the prepare_data stage.')
    tasks = sorted({row["task"] for row in rows})
    if len(tasks) > 1 or tasks[0] not in TASKS:
        raise UserError(
            f"evaluate: the eval split of {path} holds problems of task {', '.join(map(repr, tasks))}; one evaluation "
            f"asks one task, which is {' or '.join(map(repr, TASKS))}: prepare one data set for each task."
        )
    return take_part(rows, num_questions, f"the eval split of {path}")


def take_part(rows: list[dict[str, Any]], num_questions: int | None, what: str) -> list[dict[str, Any]]:
    """The first `num_questions` by a hash of their ids, all for None. Raises UserError when `what` has fewer."""
    if num_questions is None:
        return rows
    if num_questions > len(rows):
        raise UserError(
            f"evaluate: num_questions is {num_questions}, but {what} has {len(rows)} problems: "
            "lower num_questions, set it to null to ask all, or prepare more."
        )
    return sorted(rows, key=lambda row: hashlib.sha256(row["problem_id"].encode()).digest())[:num_questions]
