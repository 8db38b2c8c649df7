"""The files of an artifact: list, hash, compare, tidy, sync."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasks.core.store.record import RECORD, FileEntry

SCRATCH = "work"


def list_files(directory: Path) -> Iterator[str]:
    """Every file an artifact publishes, relative and with "/": not record.json, not what lies in work/."""
    for parent, names, files in os.walk(directory):
        if Path(parent) == directory:
            names[:] = [name for name in names if name != SCRATCH]
            files = [name for name in files if name != RECORD]
        yield from (Path(parent, name).relative_to(directory).as_posix() for name in files)


def hash_files(directory: Path, *, sync: bool = False) -> dict[str, FileEntry]:
    """Size and sha256 of every published file; with `sync` each one is on the disk before this returns."""
    names = sorted(list_files(directory))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # hashlib lets go of the GIL
        return dict(zip(names, pool.map(lambda name: _hash_file(directory / name, sync), names), strict=True))


def find_damage(directory: Path, files: Mapping[str, FileEntry]) -> list[str]:
    """What is wrong with the recorded files, one line each; empty when every byte is as it was published.

    Sizes are compared first, so that a torn artifact costs no hashing. No cache of earlier hashes: a flipped byte
    keeps size and can keep its time, and only reading the file shows it.
    """
    if torn := find_torn(directory, files):
        return torn
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        problems = pool.map(lambda item: _content_problem(directory / item[0], item[1]), files.items())
        return [f"{name} {problem}" for name, problem in zip(files, problems, strict=True) if problem]


def find_torn(directory: Path, files: Mapping[str, FileEntry]) -> list[str]:
    """Which recorded files are missing or of another size, one line each, without reading them."""
    return [f"{name} {problem}" for name, entry in files.items() if (problem := _size_problem(directory / name, entry))]


def _size_problem(path: Path, entry: FileEntry) -> str:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    return "" if size == entry.size else f"has {size} bytes, not {entry.size}"


def _content_problem(path: Path, entry: FileEntry) -> str:
    try:
        found = _hash_file(path, sync=False)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if found.sha256 == entry.sha256 else "has other content than was published (sha256 differs)"


def _hash_file(path: Path, sync: bool) -> FileEntry:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if sync:
            os.fsync(file.fileno())
        return FileEntry(size=os.fstat(file.fileno()).st_size, sha256=digest)


def tidy(directory: Path) -> None:
    """Make a staging directory stand for itself: drop half-written files, put real files where links were.

    A link into a cache or to an absolute path would leave an artifact that changes, or breaks, from outside.
    """
    for parent, names, files in os.walk(directory):
        if Path(parent) == directory:
            names[:] = [name for name in names if name != SCRATCH]
        for path in (Path(parent, name) for name in (*names, *files)):
            if path.is_symlink():
                _replace_link(path)
            elif path.name.startswith(".") and path.name.endswith(".partial"):
                path.unlink()


def _replace_link(path: Path) -> None:
    target = path.resolve()
    path.unlink()
    if target.is_dir() and target not in path.parents:
        shutil.copytree(target, path)
    elif target.is_file():
        shutil.copyfile(target, path)


def sync_directories(directory: Path) -> None:
    """Flush the names in `directory` and below to the disk."""
    for parent, _, _ in os.walk(directory):
        sync_directory(Path(parent))


def sync_directory(directory: Path) -> None:
    """Flush the names in one directory to the disk, so that a rename outlives a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a directory."""
    if not path.is_dir():
        return path.lstat().st_size
    return sum(Path(parent, name).lstat().st_size for parent, _, files in os.walk(path) for name in files)
