"""Stage prepare_data: disjoint splits on its real output, and every way a file of questions can be wrong."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.errors import UserError
from tasks.prepare_data import PrepareDataConfig, prepare_data
from tests.tasks.training_inputs import folder, parsed

COUNTDOWN = {
    "kind": "countdown",
    "num_numbers": [3, 4],
    "max_number": 20,
    "max_target": 50,
    "operators": "+-*/",
    "prompt": "english",
}
GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_test.jsonl"
ROWS: list[dict[str, Any]] = [{"q": f"What is {i} + {i}?", "a": f"Twice {i}. #### {2 * i}"} for i in range(10)]


def prepared(out: Path, source: dict[str, Any], num_train: int, num_eval: int, seed: int = 0) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    config = parsed(PrepareDataConfig, source=source, num_train=num_train, num_eval=num_eval, seed=seed)
    prepare_data(config, out=folder(out))
    return pq.read_table(out / "problems.parquet").to_pylist()


def local(path: Path, **more: Any) -> dict[str, Any]:
    return {"kind": "local", "path": str(path), "question_column": "q", "answer_column": "a"} | more


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def metrics_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "metrics.json").read_text())


def test_prepare_data_countdown_splits_share_no_canonical_problem(tmp_path: Path) -> None:
    rows = prepared(tmp_path, COUNTDOWN, 3000, 600)
    keys: dict[str, list[Any]] = {"train": [], "eval": []}
    for row in rows:
        gold = json.loads(row["answer"])
        keys[row["split"]].append((tuple(sorted(gold["numbers"])), gold["target"]))
    assert (len(keys["train"]), len(keys["eval"])) == (3000, 600)
    assert len(set(keys["train"])) == 3000 and len(set(keys["eval"])) == 600
    assert not set(keys["train"]) & set(keys["eval"])
    assert len({row["problem_id"] for row in rows}) == 3600
    assert metrics_of(tmp_path)["num_train"] == 3000


def test_prepare_data_countdown_prompt_shows_numbers_and_target(tmp_path: Path) -> None:
    for row in prepared(tmp_path, COUNTDOWN, 5, 5):
        gold = json.loads(row["answer"])
        shown = row["prompt"][-1]["content"]
        assert f"Numbers: {', '.join(map(str, gold['numbers']))}. Target: {gold['target']}." in shown


def test_prepare_data_same_seed_same_file_whatever_the_workers(tmp_path: Path) -> None:
    for name, num_workers in (("one", 1), ("two", 2)):
        values = {"source": COUNTDOWN, "num_train": 50, "num_eval": 10, "seed": 3, "num_workers": num_workers}
        prepare_data(parsed(PrepareDataConfig, **values), out=folder(tmp_path / name))
    one, two = ((tmp_path / name / "problems.parquet").read_bytes() for name in ("one", "two"))
    assert one == two
    assert prepared(tmp_path / "other", COUNTDOWN, 50, 10, seed=4) != prepared(tmp_path / "same", COUNTDOWN, 50, 10, 3)


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_prepare_data_local_reads_each_format_alike(tmp_path: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / f"sums.{kind}"
    if kind == "jsonl":
        write(path, ROWS)
    elif kind == "json":
        path.write_text(json.dumps(ROWS))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    rows = prepared(tmp_path, local(path, answer_after="####", system_prompt="Be brief."), 6, 3)
    assert Counter(row["split"] for row in rows) == {"train": 6, "eval": 3}
    row = rows[0]
    number = int(row["answer"]) // 2
    question = f"What is {number} + {number}?"
    assert row["problem_id"] == "math-" + hashlib.sha256(question.encode()).hexdigest()[:16]
    assert row["task"] == "math"
    assert row["prompt"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": question},
    ]


def test_prepare_data_local_output_does_not_depend_on_the_files_name(tmp_path: Path) -> None:
    outputs, identities = [], []
    for name in ("a.jsonl", "b.jsonl"):
        source = local(write(tmp_path / name, ROWS), answer_after="####")
        outputs.append(prepared(tmp_path / f"out-{name}", source, 6, 3))
        config = parsed(PrepareDataConfig, source=source, num_train=6, num_eval=3, seed=0)
        identities.append(config.identity())
    assert outputs[0] == outputs[1] and identities[0] == identities[1]
    assert "path" not in identities[0]["source"]


def test_prepare_data_local_counts_what_each_filter_drops(tmp_path: Path) -> None:
    bad = [
        {"q": "  ", "a": "#### 1"},
        {"q": None, "a": "#### 1"},
        {"q": "No mark?", "a": "seven"},  # without the mark there is no gold
        {"q": "Empty?", "a": "####  "},
        {"q": "Null?", "a": None},
        {"q": "What  is 3 +\n3?", "a": "#### 6"},  # row 3 again, spaced otherwise
    ]
    path = write(tmp_path / "rows.jsonl", ROWS + bad)
    rows = prepared(tmp_path, local(path, answer_after="####"), 8, 2)
    assert len({row["prompt"][0]["content"] for row in rows}) == 10
    metrics = metrics_of(tmp_path)
    assert (metrics["num_train"], metrics["num_eval"], metrics["contaminated"]) == (8, 2, {})
    assert metrics["filters"] == [
        {"name": "usable", "num_in": 16, "num_out": 16},
        {"name": "question present", "num_in": 16, "num_out": 14},
        {"name": "gold present", "num_in": 14, "num_out": 11},
        {"name": "gold readable", "num_in": 11, "num_out": 11},
        {"name": "unique", "num_in": 11, "num_out": 10},
        {"name": "taken", "num_in": 10, "num_out": 10},
    ]
    assert metrics["sources"] == {"local": {"num_train": 8, "num_eval": 2, "filters": metrics["filters"]}}


def test_prepare_data_local_eval_stays_when_train_grows(tmp_path: Path) -> None:
    source = local(write(tmp_path / "rows.jsonl", ROWS), answer_after="####")
    small, large = (prepared(tmp_path / str(num), source, num, 3) for num in (2, 7))
    assert [row for row in small if row["split"] == "eval"] == [row for row in large if row["split"] == "eval"]


def test_prepare_data_numbers_as_golds_are_text(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"q": "Six?", "a": 6}, {"q": "Half?", "a": 0.5}])
    assert sorted(row["answer"] for row in prepared(tmp_path, local(path), 1, 1)) == ["0.5", "6"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"q": [{"from": "human"}], "a": "1"}, r"rows\.jsonl, row 10: q is a list, not text"),
        ({"q": 7, "a": "1"}, r"row 10: q is a int, not text"),
        ({"q": "Why?", "a": True}, r"row 10: a is a bool, neither text nor a number"),
        ({"q": "Why?", "a": ["1"]}, r"row 10: a is a list, neither text nor a number"),
        ({"q": "Why?"}, r"row 10, has no column 'a' .*; it has q\."),
    ],
)
def test_prepare_data_local_wrong_column_is_refused_with_its_row(tmp_path: Path, row: Any, message: str) -> None:
    path = write(tmp_path / "rows.jsonl", [*ROWS, row])
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, local(path), 1, 1)


def test_prepare_data_local_unreadable_gold_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"q": "Six?", "a": "6"}, {"q": "Broken?", "a": "\\frac{1}{"}])
    with pytest.raises(
        UserError, match=r"1 gold answers cannot be read .* local, row 1: '.{1,3}frac\{1\}\{': .*bad_golds"
    ):
        prepared(tmp_path, local(path), 1, 1)


def test_prepare_data_local_too_few_rows_says_where_they_went(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [*ROWS, ROWS[0]])
    message = r"the source gives 10 problems \(.*unique: 11 -> 10\), but num_train \+ num_eval asks for 12"
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, local(path, answer_after="####"), 9, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_train": -1}, "greater than or equal to 0"),
        ({"source": COUNTDOWN | {"num_numbers": []}}, "at least 1 item"),
        ({"source": COUNTDOWN | {"num_numbers": [1]}}, "greater than or equal to 2"),
        ({"source": COUNTDOWN | {"operators": "+^"}}, "should match pattern"),
        ({"source": COUNTDOWN | {"prompt": "klingon"}}, "'tokens', 'english', 'chinese', .* or 'datawhale'"),
        ({"source": {"kind": "hib"}}, "'local', 'hub'"),
        ({"filters": {"lenght": [1, 2]}}, "lenght"),
        ({"filters": {"question_chars": [9, 3]}}, "the longest last"),
        ({"num_workers": 0}, "give 1 or more"),
    ],
)
def test_prepare_data_config_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parsed(PrepareDataConfig, **({"source": COUNTDOWN, "num_train": 1, "num_eval": 1, "seed": 0} | values))


def test_prepare_data_nothing_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="num_train and num_eval are both 0"):
        prepared(tmp_path, COUNTDOWN, 0, 0)


@pytest.mark.skipif(not GSM8K.is_file(), reason="GSM8K is not beside the project, in ../shared/data")
def test_prepare_data_gsm8k_gives_numbers_and_disjoint_questions(tmp_path: Path) -> None:
    source = local(GSM8K, question_column="question", answer_column="answer", answer_after="####")
    rows = prepared(tmp_path, source, 1000, 300)
    assert all(float(row["answer"].replace(",", "")) % 1 == 0 for row in rows)
    questions = {split: {row["prompt"][0]["content"] for row in rows if row["split"] == split} for split in ("train",)}
    questions["eval"] = {row["prompt"][0]["content"] for row in rows if row["split"] == "eval"}
    assert (len(questions["train"]), len(questions["eval"])) == (1000, 300)
    assert not questions["train"] & questions["eval"]
