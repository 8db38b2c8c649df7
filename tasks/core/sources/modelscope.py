"""ModelScope, or the server that MODELSCOPE_ENDPOINT names, as rows.

ModelScope's client (`modelscope_hub`, the part of the package `modelscope` that speaks to the server) fetches the whole
repository at the pinned commit; configuration and split are resolved, and the rows read, as for the Hugging Face hub.
The package's own `MsDataset` is not used: it needs packages that installing modelscope does not bring.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from tasks.core.errors import TransientError, UserError
from tasks.core.sources.config import missing_extra
from tasks.core.sources.hub import file_batches, name_of, split_files
from tasks.core.sources.places import ModelScopeRows
from tasks.core.sources.rows import Batch, Mapping, Row


def modelscope_batches(source: ModelScopeRows, mapping: Mapping[Row]) -> Iterator[Batch[Row]]:
    """The rows of the split, file by file.

    Raises UserError when the package is missing or the data set, revision, configuration or split is not to be had,
    TransientError when ModelScope does not answer.
    """
    if importlib.util.find_spec("modelscope_hub") is None:
        raise missing_extra("kind: modelscope", "modelscope")
    root = _download(source)
    yield from file_batches(source, mapping, split_files(str(root), source), Path)


def _download(source: ModelScopeRows) -> Path:
    """The repository's files at the revision, in ModelScope's cache."""
    from modelscope_hub import HubApi, HubConfig
    from modelscope_hub.errors import AuthenticationError, HubError, NotExistError, PermissionDeniedError
    from requests import RequestException

    config = HubConfig()
    # Where the client itself would put them; named here because it prefers a directory that an older client has left,
    # whatever revision that holds.
    root = config.cache_dir / "datasets" / source.dataset.replace("/", "--") / "snapshots" / source.revision
    try:
        endpoint = HubApi().resolve_endpoint_for_read(source.dataset, repo_type="dataset")
        HubApi(endpoint=endpoint).download_repo(source.dataset, "dataset", revision=source.revision, local_dir=root)
    except (AuthenticationError, NotExistError, PermissionDeniedError) as error:
        raise UserError(
            f"{name_of(source)} cannot be had from {config.endpoint}: {_first_line(error)}. Check dataset and "
            "revision; a private data set wants your MODELSCOPE_API_TOKEN in the environment; MODELSCOPE_ENDPOINT "
            "names another server."
        ) from error
    except (HubError, RequestException, TimeoutError) as error:
        raise TransientError(
            f"{config.endpoint} does not answer for {name_of(source)}: {_first_line(error)}. MODELSCOPE_ENDPOINT "
            "names another server; `kind: local` takes files that lie on this machine."
        ) from error
    return root


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
