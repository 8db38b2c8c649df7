"""Small repositories with the columns and files of the hub's benchmarks, for HubServer."""

import base64
import csv
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MATH = [("What is 3 + 4?", "7"), ("What is 3 + 5?", "8"), ("What is 4 + 5?", "9")]
"""(problem, answer)."""
GPQA = [(f"Which is {place}?", f"right {place}") for place in range(8)]
"""(question, right choice)."""
TESTS = {"public": [("1\n2\n", "3")], "private": [("5\n6\n", "11"), ("-1\n1\n", "0")]}
GPQA_CARD = """---
configs:
- config_name: gpqa_diamond
  data_files: gpqa_diamond.csv
---
"""
GSM8K_CARD = """---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train-*}
  - {split: test, path: main/test-*}
---
"""
LCB_CARD = """---
configs:
- config_name: v4_v5
  data_files:
  - {split: test, path: v4_v5/test-*}
---
"""


def write_repositories(root: Path) -> dict[str, Path]:
    """{name as HubServer knows it: directory}."""
    math = [{"problem": problem, "solution": f"So $\\boxed{{{gold}}}$.", "answer": gold} for problem, gold in MATH]
    _lines(root / "math" / "test.jsonl", math)
    for year in ("aime24", "aime25"):
        _table(root / year / "data" / "train-00000-of-00001.parquet", [dict(row, id=1) for row in math])
    gsm8k = [{"question": problem, "answer": f"One counts.\n#### {gold}"} for problem, gold in MATH]
    for split in ("train", "test"):
        _table(root / "gsm8k" / "main" / f"{split}-00000-of-00001.parquet", gsm8k)
    (root / "gsm8k" / "README.md").write_text(GSM8K_CARD)
    _gpqa(root / "gpqa")
    _table(root / "lcb" / "v4_v5" / "test-00000-of-00001.parquet", [lcb_row()])
    (root / "lcb" / "README.md").write_text(LCB_CARD)
    return {
        "datasets/HuggingFaceH4/MATH-500": root / "math",
        "datasets/HuggingFaceH4/aime_2024": root / "aime24",
        "datasets/yentinglin/aime_2025": root / "aime25",
        "datasets/openai/gsm8k": root / "gsm8k",
        "datasets/Idavidrein/gpqa": root / "gpqa",
        "datasets/lighteval/code_generation_lite": root / "lcb",
    }


def gpqa_rows() -> list[dict[str, str]]:
    """The columns that lighteval's task reads."""
    wrong = {f"Incorrect Answer {number}": f"wrong {number}" for number in (1, 2, 3)}
    return [{"Question": question, "Correct Answer": right, **wrong} for question, right in GPQA]


def lcb_row() -> dict[str, Any]:
    """The sum of two numbers, read from standard input."""
    public, private = (
        [{"input": given, "output": wanted, "testtype": "stdin"} for given, wanted in TESTS[kind]] for kind in TESTS
    )
    packed = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(private)))).decode()
    return {
        "question_content": "Print the sum of two numbers.",
        "starter_code": "",
        "public_test_cases": json.dumps(public),
        "private_test_cases": packed,
        "metadata": "{}",
    }


def _gpqa(directory: Path) -> None:
    directory.mkdir()
    rows = gpqa_rows()
    with (directory / "gpqa_diamond.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (directory / "README.md").write_text(GPQA_CARD)


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
