"""The work of trace generation, cut into shards that are each either committed or absent.

WORK/plan.json says how the work is cut, WORK/requests.parquet holds one row per trace to write, in order, and
WORK/shards/00012.parquet the traces of shard 12: requests 12 × shard_size up to 13 × shard_size. A shard is written
beside its place, synced and renamed, so a kill -9 leaves whole shards only, and a rerun asks for the missing ones.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.files import read_json, write_json

SEED_BITS = 31  # what every endpoint accepts as a seed


def request_seed(seed: int, problem_id: str, sample: int) -> int:
    """The seed of one trace: it depends on the run's seed, the problem and the sample, never on shards or workers."""
    digest = hashlib.sha256(f"{seed}:{sample}:{problem_id}".encode()).digest()
    return int.from_bytes(digest[:8]) >> (64 - SEED_BITS)


@dataclass(frozen=True)
class Shards:
    """The shards of one generation run under `work`."""

    work: Path
    shard_size: int
    num_requests: int

    @classmethod
    def open(cls, work: Path) -> "Shards":
        """Open what `plan` left in `work`."""
        plan = read_json(work / "plan.json")
        return cls(work, plan["shard_size"], plan["num_requests"])

    @classmethod
    def plan(cls, work: Path, requests: Sequence[Mapping[str, Any]], shard_size: int, key: str) -> "Shards":
        """Cut `requests` into shards, or take up the cut of an interrupted run with the same `key`.

        `key` stands for everything that decides the traces. With another key the shards found are thrown away; with
        the same key they stay, and so does their size, whatever `shard_size` is now.
        """
        plan_path = work / "plan.json"
        found = read_json(plan_path) if plan_path.is_file() else None
        if found and found["key"] == key:
            return cls(work, found["shard_size"], found["num_requests"])
        if found:
            print(f"{work} holds traces of another config or other problems: throwing them away", flush=True)
            plan_path.unlink()
        shutil.rmtree(work / "shards", ignore_errors=True)
        (work / "shards").mkdir(parents=True)
        _write_table(work / "requests.parquet", requests)
        write_json(plan_path, {"key": key, "shard_size": shard_size, "num_requests": len(requests)})
        return cls(work, shard_size, len(requests))

    @property
    def num_shards(self) -> int:
        """How many shards there are in all, committed or not."""
        return -(-self.num_requests // self.shard_size)

    def path(self, shard: int) -> Path:
        """Where shard number `shard` is committed."""
        return self.work / "shards" / f"{shard:05}.parquet"

    def missing(self) -> list[int]:
        """The numbers of the shards that are not committed, ascending."""
        return [shard for shard in range(self.num_shards) if not self.path(shard).is_file()]

    def size(self, shard: int) -> int:
        """How many traces shard number `shard` holds: `shard_size`, less in the last one."""
        return min(self.shard_size, self.num_requests - shard * self.shard_size)

    def num_committed(self) -> int:
        """How many traces are committed."""
        return self.num_requests - sum(map(self.size, self.missing()))

    def read_requests(self, shards: Sequence[int]) -> Iterator[list[dict[str, Any]]]:
        """The requests of each shard, every row with its number under "shard"."""
        import pyarrow.parquet as pq

        table = pq.read_table(self.work / "requests.parquet")
        for shard in shards:
            rows = table.slice(shard * self.shard_size, self.shard_size).to_pylist()
            yield [row | {"shard": shard} for row in rows]

    def commit(self, shard: int, traces: Sequence[Mapping[str, Any]]) -> None:
        """Write the traces of shard number `shard`, all or nothing."""
        assert len(traces) == self.size(shard), f"shard {shard} has {len(traces)} traces, not {self.size(shard)}"
        _write_table(self.path(shard), traces)

    def concatenate(self, path: Path) -> None:
        """Write all shards, in order, as one file; needs the memory of one shard."""
        import pyarrow.parquet as pq

        with pq.ParquetWriter(path, pq.read_schema(self.path(0))) as writer:
            for shard in range(self.num_shards):
                writer.write_table(pq.read_table(self.path(shard), partitioning=None))


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=_schema(rows[0])), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _schema(columns: Mapping[str, Any]) -> Any:
    """The fixed type of every column, so that a shard of only nulls has the same schema as its neighbour."""
    import pyarrow as pa

    types = {
        "prompt": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
        "sample": pa.int64(),
        "seed": pa.int64(),
        "num_tokens": pa.int64(),
        "latency_s": pa.float64(),
        "teacher_erred": pa.bool_(),
    }
    return pa.schema([(name, types.get(name, pa.string())) for name in columns])
