"""Rows of a local JSONL, JSON or Parquet file, with errors that name the file, the row and the column."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError

Row = dict[str, Any]


def read_rows(path: str, columns: list[str]) -> list[Row]:
    """The file's rows with `columns` and `row`, the number of the row from 0.

    Raises UserError when the file is missing, empty, unreadable, or a row lacks a column.
    """
    file = _existing(path)
    if file.suffix == ".parquet":
        rows = _read_parquet(file, columns)
    elif file.suffix in (".jsonl", ".json"):
        rows = _read_json(file)
    else:
        raise UserError(
            f"{path} ends in {file.suffix!r}: a .jsonl, .json (one list of objects) or .parquet file is read."
        )
    if not rows:
        raise UserError(f"{path} holds no rows.")
    for number, row in enumerate(rows):
        for column in columns:
            if column not in row:
                raise _no_column(f"{path}, row {number},", column, row)
    return [{**{column: row[column] for column in columns}, "row": number} for number, row in enumerate(rows)]


def _no_column(where: str, column: str, columns: Iterable[str]) -> UserError:
    return UserError(f"{where} has no column {column!r}; it has {', '.join(sorted(columns)) or 'none'}.")


def digest_of(path: str) -> str:
    """sha256 of the file's bytes: its identity, wherever it lies. Raises UserError when it is missing."""
    with _existing(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _existing(path: str) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{path} is not a file (looked at {file.absolute()}): give the path of the data.")
    return file


def _read_parquet(file: Path, columns: list[str]) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        present = pq.read_schema(file).names
        for column in columns:
            if column not in present:
                raise _no_column(str(file), column, present)
        return pq.read_table(file, columns=columns).to_pylist()
    except pa.ArrowInvalid as error:
        raise UserError(f"{file} is not a Parquet file: {error}") from error


def _read_json(file: Path) -> list[Row]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text: {error}") from error
    try:
        rows = json.loads(text) if file.suffix == ".json" else _parse_lines(file, text)
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{error.lineno}:{error.colno} is not JSON: {error.msg}.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file} does not hold a list of objects, one per row.")
    return rows


def _parse_lines(file: Path, text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: a text may hold U+2028
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise UserError(f"{file}:{number}:{error.colno} is not JSON: {error.msg}.") from error
    return rows
