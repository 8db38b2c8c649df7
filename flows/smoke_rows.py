"""The handful of rows that a smoke run puts in the place of a data set: the same columns, invented content.

Every source of a recipe says which columns it reads and which rows it keeps; the rows are made to fit that, written to
a file named by its content, and read as `kind: local`. Questions are subtractions with the answer 4 or 7, so that a
tiny model, taught for seconds, is right about every other time.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NUM_ROWS = 32
GOLDS = (4, 7)
PUBLISHED = ("hub", "modelscope", "local")
NOT_LOCAL = ("dataset", "config", "split", "revision", "data_files")
"""Keys of a published source that a local file has no use for."""

Values = dict[str, Any]


def local_source(source: Values, directory: Path, more: Sequence[Values] = ()) -> Values:
    """`source` with every published data set or file in it replaced by one of our files under `directory`.

    Generators stay. `more` are rows that go into the file as well, such as those a benchmark shares with the training.
    """
    if source["kind"] == "mixture":
        parts = source["sources"].items()
        return source | {
            "sources": {name: part | {"source": local_source(part["source"], directory)} for name, part in parts}
        }
    if source["kind"] not in PUBLISHED:
        return source
    rows = [*more, *rows_of(source)]
    kept = {key: value for key, value in source.items() if key not in NOT_LOCAL}
    return kept | {"kind": "local", "path": str(_written(rows, directory, source.get("layout", "standard")))}


def rows_of(source: Mapping[str, Any]) -> list[Values]:
    """NUM_ROWS rows that pass the source's conditions, and one that each of them drops."""
    label = f"{source.get('dataset', source.get('path'))} {source.get('config')} {source.get('split')}"
    offset = 100 * (zlib.crc32(label.encode()) % 50)  # other numbers in every data set, so that none contains another's
    rows = [_row(source, offset + 4 * number, GOLDS[number % len(GOLDS)]) for number in range(NUM_ROWS)]
    conditions = (source.get("drop_where") or {}).items()
    dropped = [_row(source, offset + 4 * (NUM_ROWS + number), GOLDS[0]) for number in range(len(conditions))]
    for row, (column, values) in zip(dropped, conditions, strict=True):
        _set(row, column, values[0])
    return rows + dropped


def _row(source: Mapping[str, Any], start: int, gold: int) -> Values:
    total, taken = start + 20, start + 20 - gold
    question = f"Tom has {total} apples and eats {taken} of them. How many are left?"
    thought, reply = "I subtract.", f"<answer>\\boxed{{{gold}}}</answer>"
    full = f"<think>\n{thought}\n</think>\n{reply}"
    mark = source.get("answer_after")
    texts = {
        "question_column": question,
        "answer_column": f"{thought} {mark} {gold}" if mark else str(gold),
        "topic_column": "arithmetic",
        "numbers_column": [total % 50 + 20, gold, 3],
        "target_column": total % 50 + 23 + gold,
        "prompt_column": question,
        "completion_column": full,
        "thought_column": thought,
        "messages_column": [{"role": "user", "content": question}, {"role": "assistant", "content": full}],
    }
    row: Values = {}
    for column, values in (source.get("keep_where") or {}).items():
        _set(row, column, values[0])
    for column in source.get("drop_where") or {}:
        _set(row, column, "none of these")
    if source.get("thought_column") and source.get("write_answer", "plain") == "plain":
        texts["answer_column"] = reply
    for key, value in texts.items():
        if source.get(key):
            _set(row, source[key], value)
    return row


def _set(row: Values, column: str, value: Any) -> None:
    """Put `value` at a column or at a path such as `prompt.0.value`; lists are filled up with empty objects."""
    place: Any = row
    *path, last = column.split(".")
    for part, following in zip(path, column.split(".")[1:], strict=True):
        empty: Any = [{} for _ in range(int(following) + 1)] if following.isdecimal() else {}
        if isinstance(place, list):
            place[int(part)] = place[int(part)] or empty
            place = place[int(part)]
        else:
            place = place.setdefault(part, empty)
    place[int(last) if isinstance(place, list) else last] = value


def _written(rows: Sequence[Values], directory: Path, layout: str) -> Path:
    """The path of a JSONL file with the rows; where objects are concatenated, each stands over several lines."""
    indent = 2 if layout == "concatenated" else None
    text = "".join(json.dumps(row, ensure_ascii=False, indent=indent) + "\n" for row in rows)
    ending = "json" if layout == "concatenated" else "jsonl"
    path = directory / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.{ending}"
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
