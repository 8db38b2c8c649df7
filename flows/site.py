"""`r1 site`: one page with all runs of a store, filtered and sorted by its own script: no server, no network.

The page is complete without its script, which is the only one that may run (its hash stands in the page's security
policy), whatever a run is called.
"""

import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tasks.core.errors import UserError
from tasks.core.files import write_text
from tasks.core.report.evaluations import Interval, is_swept
from tasks.core.report.run import as_number
from tasks.core.store import DamagedRecord, Run, Store, read_record
from tasks.core.store.nights import FOLDER as NIGHTS
from tasks.core.store.runs import run_ids

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Score:
    """The last evaluation on one benchmark in the order of a run, the points of a curve before all others."""

    benchmark: str
    stage: str
    accuracy: Interval
    num_questions: float | None


@dataclass(frozen=True)
class Row:
    """What the page shows of a run. `difference` is the headline of its report; `link` leads there."""

    run: Run
    state: str
    wall_s: float | None
    scores: list[Score]
    difference: Interval | None
    link: str | None


@dataclass(frozen=True)
class Page:
    """Where the page lies, and how many runs it shows."""

    path: Path
    num_runs: int


def write_site(store: Store, directory: Path) -> Page:
    """Write DIR/index.html whole. Links are relative where DIR is in the store, so that both can move together.

    Raises UserError where DIR cannot be written, or would pass for an artifact.
    """
    directory = directory.resolve()
    root = store.root.resolve()
    if directory.is_relative_to(root) and len(directory.relative_to(root).parts) > 1:
        raise UserError(f"{directory} would pass for an artifact of {root}: give {root / 'site'}, or a folder outside.")
    rows = _rows(store, directory)
    num_damaged = len(run_ids(store.root)) - len(rows)
    ledger = store.root / NIGHTS / "index.html"
    page = render(rows, num_damaged, _link(ledger, root, directory) if ledger.is_file() else None)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_text(directory / "index.html", page)
    except OSError as error:
        raise UserError(
            f"cannot write index.html into {directory}: {error.strerror}. Give a folder that this user can "
            "write, as in `r1 site DIR`."
        ) from None
    return Page(directory / "index.html", len(rows))


def render(rows: list[Row], num_damaged: int, ledger: str | None) -> str:
    """The page as HTML text; `num_damaged` runs could not be read; `ledger` leads to the page of the nights."""
    from markupsafe import Markup

    from tasks.core.report.page import TEMPLATES, make_environment

    script = (HERE / "site.js").read_text(encoding="utf-8")
    styles = [path.read_text(encoding="utf-8") for path in (TEMPLATES / "report.css", HERE / "site.css")]
    return (
        make_environment(HERE)
        .get_template("site.html.j2")
        .render(
            rows=rows,
            num_damaged=num_damaged,
            ledger=ledger,
            recipes=sorted({row.run.recipe for row in rows}),
            states=sorted({row.state for row in rows}),
            benchmarks=sorted({score.benchmark for row in rows for score in row.scores}),
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
            css=Markup("".join(styles)),
            script=Markup(script),
            script_hash=b64encode(sha256(script.encode()).digest()).decode(),
        )
    )


def _rows(store: Store, directory: Path) -> list[Row]:
    """All runs that can be read, newest first."""
    metrics: dict[Path, Mapping[str, Any]] = {}
    for run in (runs := store.readable_runs()):
        for stage in run.stages:
            path = store.path(stage.stage, stage.fingerprint)
            if stage.stage in ("evaluate", "report") and path not in metrics:
                metrics[path] = _metrics(path)
    return [_row(store, run, metrics, directory) for run in runs]


def _metrics(path: Path) -> Mapping[str, Any]:
    """Empty where the artifact is not there or cannot be believed."""
    try:
        return read_record(path).metrics
    except (OSError, DamagedRecord):
        return {}


def _row(store: Store, run: Run, metrics: Mapping[Path, Mapping[str, Any]], directory: Path) -> Row:
    paths = [(stage, store.path(stage.stage, stage.fingerprint)) for stage in run.stages]
    scores: dict[str, Score] = {}
    for stage, path in sorted(paths, key=lambda one: not is_swept(metrics.get(one[1], {}))):
        found = metrics.get(path, {})
        accuracy = _interval(found, "accuracy") if stage.stage == "evaluate" else None
        if accuracy:
            name = str(found.get("benchmark"))
            scores.pop(name, None)
            scores[name] = Score(name, stage.name, accuracy, as_number(found.get("num_questions")))
    pages = [path / "report.html" for stage, path in paths if stage.stage == "report"]
    report = next((page for page in reversed(pages) if page.is_file()), None)
    return Row(
        run=run,
        state=run.state_now,
        wall_s=_wall_s(run),
        scores=list(reversed(scores.values())),  # that of the run's last evaluation first
        difference=_interval(metrics.get(report.parent, {}), "difference") if report else None,
        link=_link(report, store.root.resolve(), directory) if report else None,
    )


def _interval(metrics: Mapping[str, Any], name: str) -> Interval | None:
    mean, low, high = (as_number(metrics.get(key)) for key in (name, f"{name}_low", f"{name}_high"))
    return None if mean is None else Interval(mean, low, high)


def _wall_s(run: Run) -> float | None:
    """From start to end; None while it runs, and where a clock was set back."""
    try:
        seconds = (datetime.fromisoformat(run.ended_at or "") - datetime.fromisoformat(run.started_at)).total_seconds()
    except (ValueError, TypeError):
        return None
    return seconds if seconds >= 0 else None


def _link(target: Path, root: Path, directory: Path) -> str:
    """From a page in `directory` to `target`; relative where both lie below `root`."""
    if directory.is_relative_to(root):
        return quote(Path(os.path.relpath(target.resolve(), directory)).as_posix())
    return target.resolve().as_uri()
