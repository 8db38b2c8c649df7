"""What changed between two nights: where to look when the later one regressed."""

import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.core.store.explain import differences
from tasks.core.store.nights import Night
from tasks.core.store.provenance import COMMAND_TIMEOUT_S, PROJECT_DIR

MAX_COMMITS = 30


def changes_between(before: Night, after: Night) -> list[str]:
    """One line a change: commits, packages, hardware, and the recipe's values with the data's and models' revisions."""
    return [
        *_commits(before, after),
        *_changed("package", before.packages, after.packages),
        *_changed("hardware", before.hardware, after.hardware),
        *_changed("recipe", before.identities, after.identities),
    ]


def _commits(before: Night, after: Night) -> Iterator[str]:
    if before.commit and after.commit and before.commit != after.commit:
        span = f"{before.commit[:12]}..{after.commit[:12]}"
        lines = _log(span)
        yield from (f"commit {line}" for line in lines[:MAX_COMMITS])
        if len(lines) > MAX_COMMITS:
            yield f"commit … and {len(lines) - MAX_COMMITS} more: git log {span}"
        if not lines:
            yield f"commit {before.commit[:12]} → {after.commit[:12]}"
    if after.dirty:
        yield "the working tree had changes that no commit holds"


def _log(span: str) -> list[str]:
    """Hash and subject of each commit, the newest first; none where this checkout does not have them."""
    command = ["git", "-C", str(PROJECT_DIR), "log", "--format=%h %s", span]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


def _changed(what: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for path, old, new in differences(dict(before), dict(after)):
        yield f"{what} {path}: {old} → {new}"
