"""Reading local files of rows: what is read, and which file, line and column an error names."""

import json
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.core.local_rows import digest_of, read_rows


def test_read_rows_jsonl_skips_blank_lines_and_keeps_line_separators_inside_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "a\u2028b", "x": 1}\n\n{"q": "c"}\r\n', encoding="utf-8")
    assert read_rows(str(path), ["q"]) == [{"q": "a\u2028b", "row": 0}, {"q": "c", "row": 1}]


def test_read_rows_takes_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"q": "题"}]), encoding="utf-8-sig")
    assert read_rows(str(path), ["q"]) == [{"q": "题", "row": 0}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", b'{"q": 1}\n{"q": ', r"rows\.jsonl:2:\d+ is not JSON"),
        ("rows.jsonl", b'{"q": 1}\n[1]\n', "does not hold a list of objects"),
        ("rows.jsonl", b'{"q": 1}\n{"p": 1}\n', r"row 1, has no column 'q'; it has p\."),
        ("rows.json", b'[{"q": 1},]', r"rows\.json:1:\d+ is not JSON"),
        ("rows.json", b'{"q": 1}', "does not hold a list of objects"),
        ("rows.jsonl", b"", "holds no rows"),
        ("rows.json", b"\xff\xfe", "is not UTF-8 text"),
        ("rows.parquet", b"PAR1", "is not a Parquet file"),
        ("rows.csv", b"q\n1\n", r"ends in '\.csv': a \.jsonl, \.json \(one list of objects\) or \.parquet"),
    ],
)
def test_read_rows_refuses_and_says_where(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_rows(str(tmp_path / name), ["q"])


def test_read_rows_parquet_without_the_column_lists_its_columns(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"question": ["?"], "gold": ["1"]}), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=r"has no column 'q'; it has gold, question\."):
        read_rows(str(tmp_path / "rows.parquet"), ["q"])


def test_digest_of_missing_file_names_the_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"no\.jsonl is not a file \(looked at {tmp_path}/no\.jsonl\)"):
        digest_of("no.jsonl")
