"""What is left out of a set of traces: the filters that look at one trace, and its question, at a time."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tasks.core.curation.decontaminate import Benchmarks, key_of
from tasks.core.curation.filters import Decontaminate
from tasks.core.curation.quality import question_of
from tasks.core.curation.screen import benchmark_questions
from tasks.core.errors import UserError
from tasks.core.sources.pool import build_pool
from tasks.core.sources.trace_table import Trace

USABLE, LENGTH, BENCHMARK, HELD_OUT, UNIQUE = "usable", "completion length", "in no benchmark", "not held out", "unique"


class Screened(NamedTuple):
    """A trace, and the filter that drops it with why, None and "" where none does."""

    trace: Trace
    filter: str | None
    detail: str


class TraceScreen:
    """The filters of a recipe. `applied` are their names in their order.

    `problems` is the directory of a prepare_data artifact whose eval split must not be learnt. The benchmarks' pools
    are built in `work`, and progress.json meanwhile lies in `desk`. Raises UserError when one of them cannot be read.
    """

    def __init__(
        self, decontaminate: Decontaminate | None, max_chars: int | None, problems: Path | None, work: Path, desk: Path
    ) -> None:
        self.max_chars = max_chars
        self.benchmarks = _benchmarks(decontaminate, work, desk) if decontaminate else None
        self.held_out = _eval_keys(problems) if problems else None
        given = {LENGTH: self.max_chars, BENCHMARK: self.benchmarks, HELD_OUT: problems}
        self.applied = tuple(
            name for name in (USABLE, LENGTH, BENCHMARK, HELD_OUT, UNIQUE) if name not in given or given[name]
        )
        self._seen: set[bytes] = set()

    def judge(self, traces: Sequence[Trace]) -> Iterator[Screened]:
        """What becomes of each trace; a trace equals one that was kept before, in this call or an earlier one."""
        import pyarrow as pa

        found: Sequence[str | None] = [None] * len(traces)
        if self.benchmarks:
            found = self.benchmarks.find(pa.array([trace.question for trace in traces], pa.string()))
        for trace, contamination in zip(traces, found, strict=True):
            yield Screened(trace, *self._verdict(trace, contamination))

    def _verdict(self, trace: Trace, contamination: str | None) -> tuple[str | None, str]:
        if trace.flaw is not None:
            return USABLE, trace.flaw
        if self.max_chars is not None and len(trace.completion) > self.max_chars:
            return LENGTH, f"{len(trace.completion)} characters"
        if contamination is not None:
            return BENCHMARK, contamination
        if self.held_out is not None and key_of(trace.question) in self.held_out:
            return HELD_OUT, ""
        key = trace_hash(trace.prompt, trace.completion)
        if key in self._seen:
            return UNIQUE, ""
        self._seen.add(key)
        return None, ""


def trace_hash(prompt: Any, completion: str) -> bytes:
    """What makes two traces the same: 16 bytes of a hash of their messages and their text."""
    text = json.dumps([[[one["role"], one["content"]] for one in prompt], completion], ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _benchmarks(decontaminate: Decontaminate, work: Path, desk: Path) -> Benchmarks:
    paths = {
        name: build_pool(source, work / "benchmarks", desk, 0, {}).path
        for name, source in decontaminate.benchmarks.items()
    }
    return Benchmarks.build(benchmark_questions(paths), decontaminate.ngram)


def _eval_keys(problems: Path) -> frozenset[str]:
    """The questions of the eval split, up to what `key_of` folds."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = problems / "problems.parquet"
    if not path.is_file():
        raise UserError(f"{path} does not exist: `problems` must point at the output of prepare_data.")
    table = pq.read_table(path, columns=["split", "prompt"])
    prompts = table.filter(pc.equal(table["split"], "eval"))["prompt"].to_pylist()
    return frozenset(key_of(question_of(prompt)) for prompt in prompts)
