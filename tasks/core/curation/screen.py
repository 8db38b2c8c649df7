"""The filters that look at one problem at a time, over a part of the pool: what they say of each of its rows."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tasks.core.curation.decontaminate import Benchmarks
from tasks.core.curation.filters import Filters
from tasks.core.curation.kinds import is_multiple_choice, is_proof
from tasks.core.curation.near_duplicates import NearDuplicates, signatures
from tasks.core.verifier import Verifier

MATH = "math"
MAX_DETAIL_CHARS = 300
Reasons = Sequence[str | None]
"""Why each row is dropped; None where it is not, "" where the filter's name says it all."""


class _Step(NamedTuple):
    """`find` gives the reasons for the rows of a table. `is_for_math`: other tasks' rows are not asked."""

    name: str
    find: Callable[[Any], Reasons]
    is_for_math: bool = True


class Screen:
    """The filters of a recipe, ready to look at parts. Holds at most one worker of the verifier.

    `benchmarks` are the pools' paths by name.
    """

    def __init__(self, filters: Filters, benchmarks: dict[str, Path]) -> None:
        self.near_duplicates = filters.near_duplicates
        self._verifier = Verifier()
        self._steps = [
            _Step("usable", lambda rows: rows["flaw"].to_pylist(), is_for_math=False),
            _Step("question present", lambda rows: _blank(rows["question"]), is_for_math=False),
            _Step("gold present", lambda rows: _blank(rows["answer"]), is_for_math=False),
        ]
        if filters.multiple_choice:
            self._steps.append(_Step("no multiple choice", lambda rows: _of_kind(is_multiple_choice, rows)))
        if filters.proofs:
            self._steps.append(_Step("no proof", lambda rows: _of_kind(is_proof, rows)))
        for name, column, bounds in (
            ("question length", "question", filters.question_chars),
            ("answer length", "answer", filters.answer_chars),
        ):
            if bounds:
                self._steps.append(_Step(name, _length(column, *bounds)))
        if filters.decontaminate:
            index = Benchmarks.build(benchmark_questions(benchmarks), filters.decontaminate.ngram)
            self._steps.append(_Step("in no benchmark", lambda rows: index.find(rows["question"])))
        self._steps.append(_Step("gold readable", self._bad_golds))

    def close(self) -> None:
        """End the verifier's worker."""
        self._verifier.close()

    def judge(self, rows: Any) -> Any:
        """A table with a row for each row of `rows`, a pyarrow Table of the pool's schema:

        `filter` (string), the filter that drops it, null where none does; `detail` (string|null), why; `key` (uint64),
        the hash of its canonical form; and, with near duplicates, `signature` (fixed size binary), null for a row that
        is dropped or no mathematics.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        is_math = pc.equal(rows["task"], MATH).to_numpy()
        names: list[str | None] = [None] * rows.num_rows
        details: list[str | None] = [None] * rows.num_rows
        is_kept = np.ones(rows.num_rows, dtype=bool)
        for step in self._steps:
            asked = np.flatnonzero(is_kept & is_math if step.is_for_math else is_kept)
            if not len(asked):
                continue
            for row, reason in zip(asked, step.find(rows.take(asked)), strict=True):
                if reason is not None:
                    is_kept[row], names[row], details[row] = False, step.name, reason[:MAX_DETAIL_CHARS] or None
        columns = {"filter": pa.array(names, pa.string()), "detail": pa.array(details, pa.string())}
        columns["key"] = pa.array([key_hash(key) for key in rows["key"].to_pylist()], pa.uint64())
        if self.near_duplicates:
            columns["signature"] = _signatures(rows["question"], is_kept & is_math, self.near_duplicates)
        return pa.table(columns)

    def _bad_golds(self, rows: Any) -> Reasons:
        golds = rows["answer"].to_pylist()
        bad = self._verifier.bad_golds([MATH] * len(golds), golds)
        return [f"{golds[i]!r:.80}: {bad[i]}" if i in bad else None for i in range(len(golds))]


def key_hash(key: str) -> int:
    """The first 64 bits of the sha256 of a canonical form, which stand for it.

    Of a million problems two share them by accident with a chance of 1 in 37 million, of a hundred million with 1 in
    3,700; one of the two would count as a duplicate.
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def _blank(texts: Any) -> Reasons:
    return [None if text and not text.isspace() else "" for text in texts.to_pylist()]


def _of_kind(test: Callable[[str, str], bool], rows: Any) -> Reasons:
    pairs = zip(rows["question"].to_pylist(), rows["answer"].to_pylist(), strict=True)
    return ["" if test(question, answer) else None for question, answer in pairs]


def _signatures(questions: Any, is_asked: Any, settings: NearDuplicates) -> Any:
    """The signatures of the asked ones, null for the others."""
    import numpy as np
    import pyarrow as pa

    found = signatures(questions.filter(pa.array(is_asked)), settings)
    return found.take(pa.array(np.where(is_asked, np.cumsum(is_asked) - 1, 0), mask=~is_asked))


def _length(column: str, shortest: int, longest: int) -> Callable[[Any], Reasons]:
    def find(rows: Any) -> Reasons:
        import pyarrow.compute as pc

        lengths = pc.utf8_length(rows[column]).to_pylist()
        return [None if shortest <= length <= longest else f"{length} characters" for length in lengths]

    return find


def benchmark_questions(benchmarks: dict[str, Path]) -> dict[str, list[str]]:
    """{benchmark: its questions} from the pools' paths."""
    import pyarrow.parquet as pq

    return {
        name: [text for text in pq.read_table(path, columns=["question"])["question"].to_pylist() if text]
        for name, path in benchmarks.items()
    }
