"""completions.parquet as a killed and resumed training leaves it."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tasks.core import completions_log
from tasks.core.completions_log import CompletionsLog


def rows(step: int, num: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "problem_id": f"{step}-{i}",
            "task": "math",
            "completion": "<think> é </think>",
            "num_tokens": 7,
            "is_truncated": False,
            "reward": 1.5,
            "reward_format": None,
            "advantage": -0.5,
            "verdict": "correct" if i else None,
            "is_used": True,
        }
        for i in range(num)
    ]


def written(log: CompletionsLog, *steps: int) -> CompletionsLog:
    for step in steps:
        log.add(step, rows(step))
    return log


def test_completions_log_resumed_after_kill_holds_the_rows_of_an_uninterrupted_run(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for out in (whole, killed):
        out.mkdir()
    written(CompletionsLog(whole, ["format"]), 1, 2, 3, 4, 5).finish()
    first = written(CompletionsLog(killed, ["format"]), 1, 2)
    first.flush()  # checkpoint-2 is written
    written(first, 3, 4).flush()
    written(first, 5)  # and lost
    written(CompletionsLog(killed, ["format"]), 3, 4, 5).finish()
    table = pq.read_table(killed / "completions.parquet")
    assert table.equals(pq.read_table(whole / "completions.parquet"))
    assert table["step"].to_pylist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert table.slice(3, 1).to_pylist() == [{"step": 2} | rows(2)[1]]


def test_completions_log_started_anew_forgets_what_lies_there(tmp_path: Path) -> None:
    written(CompletionsLog(tmp_path, ["format"]), 1, 2, 3).flush()
    written(CompletionsLog(tmp_path, ["format"]), 1).finish()
    assert pq.read_table(tmp_path / "completions.parquet")["step"].to_pylist() == [1, 1]


def test_completions_log_writes_parts_in_order_and_keeps_few_rows_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions_log, "MAX_BUFFERED_ROWS", 3)
    log = CompletionsLog(tmp_path, ["format"])
    for _ in range(12):
        log.add(1, rows(1))
        assert len(log._rows) < 3
    written(log, 2).finish()
    assert len(list((tmp_path / "work" / "completions").iterdir())) == 7
    assert pq.read_table(tmp_path / "completions.parquet")["step"].to_pylist() == [1] * 24 + [2] * 2


def test_completions_log_without_rows_writes_no_file(tmp_path: Path) -> None:
    CompletionsLog(tmp_path, ["format"]).finish()
    assert list(tmp_path.iterdir()) == []


def test_completions_log_is_compressed_and_has_a_column_for_each_reward(tmp_path: Path) -> None:
    written(CompletionsLog(tmp_path, ["format", "accuracy"]), 1).finish()
    file = pq.ParquetFile(tmp_path / "completions.parquet")
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert file.schema_arrow.names == [
        "step", "problem_id", "task", "completion", "num_tokens", "is_truncated", "reward", "reward_format",
        "reward_accuracy", "advantage", "verdict", "is_used",
    ]  # fmt: skip
