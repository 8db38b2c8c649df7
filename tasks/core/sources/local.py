"""Local files as rows."""

from collections.abc import Iterator
from pathlib import Path

from tasks.core.sources.files import PARQUET, data_files, kind_of
from tasks.core.sources.json_rows import read_json
from tasks.core.sources.places import LocalFiles
from tasks.core.sources.rows import Batch, Mapping, Records, Row
from tasks.core.sources.tables import read_parquet


def local_batches(source: LocalFiles, mapping: Mapping[Row]) -> Iterator[Batch[Row]]:
    """The rows of the file, or of all files of the directory, in order.

    Raises UserError when a file cannot be read or lacks a column.
    """
    files = data_files(source.path)
    sizes = [file.stat().st_size for file in files]
    for index, file in enumerate(files):
        for some in _records(file, source, mapping):
            done = sum(sizes[:index]) + some.fraction_read * sizes[index]
            yield Batch(mapping.rows(some), done / max(sum(sizes), 1))
    mapping.check_conditions(source.path)


def _records(file: Path, source: LocalFiles, mapping: Mapping[Row]) -> Iterator[Records]:
    if kind_of(file) == PARQUET:
        return read_parquet(file, mapping.heads)
    return read_json(file, source.layout)
