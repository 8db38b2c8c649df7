"""The Hugging Face hub, or the mirror that HF_ENDPOINT names, as rows.

`datasets` resolves configuration and split to the repository's files, at the pinned commit; `huggingface_hub` fetches
those files into its cache; our own readers read them. `datasets.load_dataset` would do all of it, but it prepares every
split, stores a second copy, gives up the whole file for one row of another type, and, when a revision is gone, falls
back to whatever revision of the data set it has prepared before.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.hub import hub_errors
from tasks.core.sources.files import PARQUET, kind_of
from tasks.core.sources.json_rows import read_json
from tasks.core.sources.places import HubRows, ModelScopeRows
from tasks.core.sources.rows import Batch, Mapping, Row
from tasks.core.sources.tables import read_parquet
from tasks.core.spelling import nearest

MAX_SAID_CHARS = 300


def hub_batches(source: HubRows, mapping: Mapping[Row]) -> Iterator[Batch[Row]]:
    """The rows of the split, file by file.

    Raises UserError when the data set, revision, configuration or split is not to be had, TransientError when the hub
    does not answer.
    """
    from huggingface_hub import hf_hub_download

    def fetch(url: str) -> Path:
        name = url.split(f"@{source.revision}/", 1)[1]
        return _asking(
            source,
            lambda: Path(hf_hub_download(source.dataset, name, repo_type="dataset", revision=source.revision)),
        )

    _asking(source, lambda: _check_revision(source))
    urls = _asking(source, lambda: split_files(f"hf://datasets/{source.dataset}", source, revision=source.revision))
    yield from file_batches(source, mapping, urls, fetch)


def split_files(path: str, source: HubRows | ModelScopeRows, **more: Any) -> list[str]:
    """The files of the configuration and split as `datasets` finds them below `path`, URLs or paths.

    Raises UserError when there is no such configuration or split, naming those that there are.
    """
    from datasets import load_dataset_builder
    from huggingface_hub.errors import LocalEntryNotFoundError

    with tempfile.TemporaryDirectory() as empty:  # as its cache, so that it finds no other revision there
        try:
            builder = load_dataset_builder(path, name=source.config, cache_dir=empty, **more)
        except LocalEntryNotFoundError:
            raise  # the network, not the data set
        except (FileNotFoundError, RuntimeError) as error:  # no files; a loading script, which is refused
            said = str(error)[:MAX_SAID_CHARS]
            raise UserError(f"{name_of(source)} has no files of rows that `datasets` finds: {said}") from error
        except ValueError as error:  # an unknown configuration, or none named where there are several
            raise UserError(f"{name_of(source)}, config {source.config!r}: {' '.join(str(error).split())}") from error
    splits = {str(split): list(files) for split, files in (builder.config.data_files or {}).items()}
    if source.split not in splits:
        config = "" if builder.config.name == "default" else f", config {builder.config.name!r},"
        hint = nearest(source.split, splits)
        raise UserError(f"{name_of(source)}{config} has no split {source.split!r}; it has {', '.join(splits)}{hint}.")
    unread = [file for file in splits[source.split] if not kind_of(Path(file))]
    if unread:
        raise UserError(
            f"{name_of(source)} holds {Path(unread[0]).name}: only JSON lines, JSON and Parquet are read. Fetch the "
            "data set, turn it into one of them and use `kind: local`."
        )
    return splits[source.split]


def file_batches(
    source: HubRows | ModelScopeRows, mapping: Mapping[Row], files: list[str], fetch: Callable[[str], Path]
) -> Iterator[Batch[Row]]:
    """The rows of the files in order, each fetched when its turn comes."""
    for index, url in enumerate(files):
        file = fetch(url)
        some = read_parquet(file, mapping.heads) if kind_of(file) == PARQUET else read_json(file, "standard")
        for records in some:
            named = records._replace(place=f"{source.dataset}, {Path(url).name}")
            yield Batch(mapping.rows(named), (index + records.fraction_read) / len(files))
    mapping.check_conditions(name_of(source))


def _check_revision(source: HubRows) -> None:
    """Ask for the revision alone, for an error that says what is missing."""
    from huggingface_hub import HfApi

    HfApi().dataset_info(source.dataset, revision=source.revision, timeout=100)


def _asking(source: HubRows, ask: Callable[[], Any]) -> Any:
    """What `ask` returns, with the hub's errors turned into ours."""
    with hub_errors(name_of(source), "`kind: local` with files that lie on this machine", partial(_refusal, source)):
        return ask()


def _refusal(source: HubRows, status: int) -> str:
    """What to say when it is the revision alone that is not there; empty when the data set is."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    try:
        newest = HfApi().dataset_info(source.dataset, timeout=100).sha if status == 404 else None
    except (HfHubHTTPError, OSError):
        newest = None
    if newest:
        return (
            f"{source.dataset} on {constants.ENDPOINT} has no revision {source.revision}: it may have been removed, or "
            f"it belongs to another data set. The newest is {newest}; other rows may stand there."
        )
    return ""


def name_of(source: HubRows | ModelScopeRows) -> str:
    """The data set, for messages."""
    return f"dataset {source.dataset!r} at revision {source.revision!r}"
