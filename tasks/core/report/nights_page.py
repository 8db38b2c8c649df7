"""The page of the nightly ledger: all targets, their plots, and the latest nights of each."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from tasks.core.files import write_text
from tasks.core.report.nights import CAPTION, series_of
from tasks.core.report.page import TEMPLATES, make_environment
from tasks.core.store.nights import Night


def render_nights(nights: Sequence[Night], notes: Sequence[str]) -> str:
    """The page as HTML text, with nothing to fetch. `notes` says which entries could not be read."""
    css = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    template = make_environment(TEMPLATES).get_template("nights.html.j2")
    has_cost = any(night.cost is not None for night in nights)
    series = series_of(nights)
    return template.render(css=css, series=series, notes=notes, caption=CAPTION, total=len(nights), has_cost=has_cost)


def write_nights(page: Path, nights: Sequence[Night], notes: Sequence[str]) -> None:
    """Write the page in one step."""
    write_text(page, render_nights(nights, notes))
