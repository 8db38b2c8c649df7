"""completions.parquet: what a training sampled, one row a completion, in the order of sampling.

Rows are collected in `completions` of the scratch folder, a part file for every checkpoint and for every 1024 rows, and
joined at the end. A process that goes on from a checkpoint drops the parts of later steps, which a killed one left
behind: so the file of a resumed run holds the rows of an uninterrupted one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FILE = "completions.parquet"
MAX_BUFFERED_ROWS = 1024


def completions_schema(reward_names: Sequence[str]) -> pa.Schema:
    """The columns of completions.parquet.

    `step`: the first optimizer step that the completion serves, from 1. `num_tokens`: of the completion, its end token
    with them. `is_truncated`: it has no end token. `reward`: the weighted sum, null where no function gave one;
    `reward_<name>`: what the function gave, null for None. `verdict`: a tasks.core.verdict.Verdict, null where no
    reward judges the answer. `is_used`: false where dynamic sampling did not train on it.
    """
    fields: list[tuple[str, pa.DataType]] = [
        ("step", pa.int32()),
        ("problem_id", pa.string()),
        ("task", pa.string()),
        ("completion", pa.string()),
        ("num_tokens", pa.int32()),
        ("is_truncated", pa.bool_()),
        ("reward", pa.float32()),
        *((f"reward_{name}", pa.float32()) for name in reward_names),
        ("advantage", pa.float32()),
        ("verdict", pa.string()),
        ("is_used", pa.bool_()),
    ]
    return pa.schema(fields)


class CompletionsLog:
    """Writes the rows; one process has it, and memory holds at most MAX_BUFFERED_ROWS and one generation."""

    def __init__(self, out: Path, reward_names: Sequence[str]) -> None:
        self.out, self.schema = out, completions_schema(reward_names)
        self.folder = out / "work" / "completions"
        self._rows: list[Mapping[str, Any]] = []
        self._num_parts: int | None = None  # written by this process; None before its first row

    def add(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take the rows of `step`, which never goes down. The first step that a process brings is the one that it goes
        on from: what lies there of this step and later ones is dropped."""
        if not rows:
            return
        if self._num_parts is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._drop_from(step)
            self._num_parts = 0
        self._rows.extend({"step": step, **row} for row in rows)
        if len(self._rows) >= MAX_BUFFERED_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory to a part file. Call it before a checkpoint is written: no part may hold rows from
        both sides of one."""
        if not self._rows:
            return
        assert self._num_parts is not None
        path = self.folder / f"{self._rows[0]['step']:08d}-{self._num_parts:06d}.parquet"
        partial = path.with_suffix(".partial")
        pq.write_table(pa.Table.from_pylist(list(self._rows), schema=self.schema), partial, compression="zstd")
        partial.replace(path)
        self._num_parts += 1
        self._rows.clear()

    def finish(self) -> None:
        """Join the parts into OUT/completions.parquet, one in memory at a time; no file where nothing was logged."""
        self.flush()
        parts = self._parts()
        if not parts:
            return
        partial = self.out / f".{FILE}.partial"
        with pq.ParquetWriter(partial, self.schema, compression="zstd") as writer:
            for part in parts:
                writer.write_table(pq.read_table(part))
        partial.replace(self.out / FILE)

    def _drop_from(self, step: int) -> None:
        for part in self._parts():
            if int(part.stem.partition("-")[0]) >= step:
                part.unlink()

    def _parts(self) -> list[Path]:
        """In the order of their rows: by the first step, then as they were written."""
        return sorted(self.folder.glob("*.parquet"))
