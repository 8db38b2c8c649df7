"""Turn what a disk can refuse (no space, no right to write) into a message that says what to do."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


@contextmanager
def disk_errors(store: Path) -> Iterator[None]:
    """Inside this block a full disk, a quota, a read-only or a forbidden store is a UserError; the rest passes."""
    try:
        yield
    except OSError as error:
        where = f" for {error.filename}" if error.filename else ""
        if error.errno in FULL:
            raise UserError(
                f"no space left{where}: the store {store} has {_free_mb(store)} MB free ({error.strerror}). "
                "Nothing half-written was published. Free some space (r1 gc), or put the store on a bigger disk with "
                "--store DIR or R1_STORE=DIR; the next run resumes."
            ) from error
        if error.errno in REFUSED:
            raise UserError(
                f"cannot use the store {store}: {error.strerror}{where}. Give a store that this user can write, "
                "with --store DIR or R1_STORE=DIR."
            ) from error
        raise


def _free_mb(path: Path) -> str:
    """Megabytes free for this user where `path` lies, "?" when not even that can be read."""
    existing = next((parent for parent in (path, *path.parents) if parent.exists()), None)
    return "?" if existing is None else f"{shutil.disk_usage(existing).free / 1e6:.1f}"
