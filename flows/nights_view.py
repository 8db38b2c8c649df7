"""`r1 ledger`: the nights on the terminal, as JSON, or as a page to look at."""

import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tasks.core.errors import UserError
from tasks.core.spelling import nearest
from tasks.core.store import Store
from tasks.core.store.nights import FOLDER, Night, read_nights

STYLES = {"pass": "green", "regressed": "bold red", "inconclusive": "yellow", "failed": "red"}
PAGE = "index.html"


def show_ledger(store: Store, recipe: str | None, last: int | None, *, as_json: bool) -> None:
    """Print the nights, the oldest first: all, or the `last` ones, of all recipes or one; and why the latest of each
    target was judged so. Raises UserError for a recipe that has none."""
    nights, notes = read_nights(store.root)
    if recipe is not None:
        names = dict.fromkeys(night.recipe for night in nights)
        if recipe not in names:
            known = f"; those that have: {', '.join(names)}" if names else ""
            raise UserError(f"the ledger has no night of recipe {recipe}{nearest(recipe, names)}{known}.")
        nights = [night for night in nights if night.recipe == recipe]
    nights = nights[-last:] if last else nights
    if as_json:
        print(json.dumps([night.model_dump(mode="json") for night in nights], ensure_ascii=False, indent=2))
        return
    console = Console()
    for note in notes:
        console.print(f"warning: {note}", markup=False)
    if not nights:
        console.print(f"No night in {store.root} yet: `r1 nightly` spends the first one.", markup=False)
        return
    console.print(_table(nights))
    for night in _latest(nights):
        text = "\n".join([f"night {night.number}, {night.name} {night.verdict}: {night.reason}", *night.changes])
        console.print(f"\n{text}", markup=False, highlight=False, soft_wrap=True)


def write_page(store: Store) -> Path:
    """Write <store>/nights/index.html anew; returns its path."""
    from tasks.core.report.nights_page import write_nights

    page = store.root / FOLDER / PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    write_nights(page, *read_nights(store.root))
    return page


def _table(nights: list[Night]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("night", "ended (UTC)", "target", "verdict", "score", "seed", "commit"):
        table.add_column(column, overflow="fold", no_wrap=column not in ("target", "ended (UTC)"))
    if has_gpus := any(night.gpu_hours for night in nights):
        table.add_column("GPU h", justify="right")
    if has_cost := any(night.cost is not None for night in nights):
        table.add_column("cost", justify="right")
    for night in nights:
        score = night.score
        cells = [
            str(night.number),
            night.ended_at[:16].replace("T", " "),
            escape(night.name),
            f"[{STYLES[night.verdict]}]{night.verdict}",
            f"{100 * score.mean:.1f} % ({100 * score.low:.1f} to {100 * score.high:.1f})" if score else "",
            "" if night.seed is None else str(night.seed),
            f"{(night.commit or '')[:8]}{'+' if night.dirty else ''}",
        ]
        cells += [f"{night.gpu_hours:.2f}"] * has_gpus + ["" if night.cost is None else f"{night.cost:.2f}"] * has_cost
        table.add_row(*cells)
    return table


def _latest(nights: list[Night]) -> list[Night]:
    """The last night of each target."""
    return list({(night.recipe, night.stage, night.target.get("value")): night for night in nights}.values())
