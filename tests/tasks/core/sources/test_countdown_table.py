"""Published tables of Countdown problems as a source of prepare_data."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.errors import UserError
from tasks.prepare_data import PrepareDataConfig, prepare_data
from tests.tasks.test_prepare_data import metrics_of, prepared, write
from tests.tasks.training_inputs import folder, parsed

ROWS: list[dict[str, Any]] = [
    {"target": 98, "nums": [44, 19, 35]},  # 44 + 19 + 35
    {"target": 64, "nums": [63, 95, 96]},  # 96 - 95 + 63
    {"target": 28, "nums": [95, 11, 56]},  # 95 - 11 - 56
    {"target": 7, "nums": [1, 2]},  # no way: 1, -1, 2, 3, 0.5
]


def table(path: Path, **more: Any) -> dict[str, Any]:
    columns = {"numbers_column": "nums", "target_column": "target", "prompt": "tinyzero"}
    return {"kind": "local", "path": str(path), "task": "countdown"} | columns | more


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_countdown_table_gives_the_generators_golds_and_ids(tmp_path: Path) -> None:
    rows = prepared(tmp_path, table(parquet(tmp_path / "rows.parquet", ROWS)), 3, 1)
    assert {row["task"] for row in rows} == {"countdown"}
    by_id = {row["problem_id"]: row for row in rows}
    assert set(by_id) == {"countdown-19-35-44-98", "countdown-63-95-96-64", "countdown-11-56-95-28", "countdown-1-2-7"}
    row = by_id["countdown-19-35-44-98"]
    assert json.loads(row["answer"]) == {"numbers": [44, 19, 35], "target": 98}
    assert [message["role"] for message in row["prompt"]] == ["user"]
    assert "[44, 19, 35]" in row["prompt"][0]["content"] and "98" in row["prompt"][0]["content"]


def test_countdown_table_drops_what_is_no_problem_and_what_is_one_twice(tmp_path: Path) -> None:
    bad = [
        {"target": 98, "nums": [19, 44, 35]},  # the first again
        {"target": 3, "nums": [1, 2.5]},
        {"target": 3, "nums": [3]},
        {"target": 3, "nums": None},
        {"target": 3, "nums": [-1, 4]},
        {"target": 3.5, "nums": [1, 2]},
        {"target": None, "nums": [1, 2]},
        {"target": 3.0, "nums": [1.0, 2]},  # whole all the same
    ]
    path = write(tmp_path / "rows.jsonl", ROWS + bad)
    rows = prepared(tmp_path, table(path, solvable="check"), 4, 0)
    assert {row["problem_id"] for row in rows} >= {"countdown-19-35-44-98", "countdown-1-2-3"}
    funnel = {one["name"]: (one["num_in"], one["num_out"]) for one in metrics_of(tmp_path)["filters"]}
    # 12 rows: 6 are no problem and one has no solution, then one is there twice
    assert (funnel["usable"], funnel["unique"]) == ((12, 5), (5, 4))


@pytest.mark.parametrize("style", ["tinyzero", "mini_r1", "datawhale", "english", "chinese"])
def test_countdown_table_prompt_styles_show_numbers_target_and_tags(tmp_path: Path, style: str) -> None:
    row = prepared(tmp_path, table(write(tmp_path / "rows.jsonl", ROWS[:1]), prompt=style), 1, 0)[0]
    shown = "\n".join(message["content"] for message in row["prompt"])
    assert all(word in shown for word in ("44", "19", "35", "98", "<think>", "</answer>"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"target": 3, "nums": "[1, 2]"},
            "row 4: nums is a str, not a list of numbers: name the column .* numbers_column",
        ),
        ({"target": "3", "nums": [1, 2]}, "row 4: target is a str, not a number: name the column .* target_column"),
        ({"goal": 3, "nums": [1, 2]}, r"row 4, has no column 'target' \(target_column\)"),
    ],
)
def test_countdown_table_wrong_column_is_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, table(write(tmp_path / "rows.jsonl", [*ROWS, row])), 1, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": None}, "prompt missing: task is 'countdown'"),
        ({"question_column": "q"}, "question_column given, but task is 'countdown'"),
        ({"system_prompt": "r1_english"}, "system_prompt given, but task is 'countdown'"),
        (
            {"task": None, "question_column": "q", "answer_column": "a"},
            "numbers_column and target_column and prompt given",
        ),
        ({"prompt": "tiny_zero"}, "'tokens', 'english'"),
    ],
)
def test_countdown_table_config_refuses(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    source = table(write(tmp_path / "rows.jsonl", ROWS)) | values
    with pytest.raises(ValidationError, match=message):
        parsed(PrepareDataConfig, source=source, num_train=1, num_eval=0, seed=0)


def test_source_new_keys_are_identity_only_when_given(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"q": "1 + 1?", "a": "2"}])
    plain = {"kind": "local", "path": str(path), "question_column": "q", "answer_column": "a"}
    config = parsed(PrepareDataConfig, source=plain, num_train=1, num_eval=0, seed=0)
    old = {"answer_after", "answer_column", "answer_format", "drop_where", "keep_where", "kind", "layout"}
    old |= {"question_column", "sha256", "system_prompt", "topic_column"}
    assert set(config.identity()["source"]) == old


def test_source_system_prompt_by_name_counts_by_its_text(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"q": "1 + 1?", "a": "2"}])
    plain = {"kind": "local", "path": str(path), "question_column": "q", "answer_column": "a"}
    config = parsed(
        PrepareDataConfig, source=plain | {"system_prompt": "r1_zero_chinese"}, num_train=1, num_eval=0, seed=0
    )
    assert "<answer> 答案 </answer>" in config.identity()["source"]["system_prompt"]
    prepare_data(config, out=folder(tmp_path / "out"))
    with pytest.raises(ValidationError, match=r"'r1_zero_chinees', which names no prompt.*; nearest: r1_zero_chinese"):
        parsed(PrepareDataConfig, source=plain | {"system_prompt": "r1_zero_chinees"}, num_train=1, num_eval=0, seed=0)
