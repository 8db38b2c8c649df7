"""Rows wherever they lie: one call for local files and both hubs."""

from collections.abc import Iterator

from tasks.core.sources.places import HubRows, LocalFiles, Place
from tasks.core.sources.rows import Batch, Mapping, Row


def read_rows(place: Place, mapping: Mapping[Row]) -> Iterator[Batch[Row]]:
    """What `mapping` makes of the rows of `place`, in their order, a batch at a time.

    Raises UserError when they cannot be read or a column is wrong, TransientError when a hub is away.
    """
    if isinstance(place, LocalFiles):
        from tasks.core.sources.local import local_batches

        return local_batches(place, mapping)
    if isinstance(place, HubRows):
        from tasks.core.sources.hub import hub_batches

        return hub_batches(place, mapping)
    from tasks.core.sources.modelscope import modelscope_batches

    return modelscope_batches(place, mapping)
