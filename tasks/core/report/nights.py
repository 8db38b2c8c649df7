"""The nights of the ledger as a report shows them: for each target its scores, with the target and the verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tasks.core.report.plots import MUTED, SERIES, finish, start, styled
from tasks.core.report.text import percent
from tasks.core.store.nights import Night, Verdict

MAX_DRAWN = 120  # the latest nights of a target
MAX_ROWS = 60
MARKS = {
    Verdict.PASSED: ("o", SERIES[2]),
    Verdict.INCONCLUSIVE: ("D", SERIES[4]),
    Verdict.REGRESSED: ("v", SERIES[1]),
}
CAPTION = (
    "Each point is a night's score with its 95% interval; the line is the target, the band what the target's own error "
    "leaves open. Healthy: points scatter around the band. Sick: they stay below it, or step down together at one "
    "night; look then at what changed since the last pass."
)


@dataclass(frozen=True)
class Series:
    """The nights of one target, the newest first, with their plot; none where no night has a score."""

    name: str
    target: dict[str, Any]
    nights: list[Night]
    num_nights: int
    plot: Markup | None


def series_of(nights: Sequence[Night]) -> list[Series]:
    """One series a target, in the order in which they were first judged."""
    by_target: dict[tuple[Any, ...], list[Night]] = {}
    for night in nights:
        key = (night.recipe, night.stage, night.metric, night.target.get("value"), night.target.get("seed"))
        by_target.setdefault(key, []).append(night)
    series = []
    for group in by_target.values():
        scored = [night for night in group if night.score is not None][-MAX_DRAWN:]
        last = group[-1]
        seed = last.target.get("seed")
        name = last.name + (f", seed {seed}" if seed is not None else "")
        plot = draw_nights(name, scored) if scored else None
        series.append(Series(name, last.target, group[::-1][:MAX_ROWS], len(group), plot))
    return series


@styled
def draw_nights(name: str, nights: Sequence[Night]) -> Markup:
    """Scores by the ledger's number, with the target's line and the band down to the null."""
    axes, figure = start(3.1)
    value = 100 * float(nights[-1].target["value"])
    axes.axhline(value, color=MUTED, linewidth=1.5, linestyle="--")
    if nights[-1].null is not None:
        axes.axhspan(100 * nights[-1].null, value, color=MUTED, alpha=0.15, linewidth=0)
    for verdict, (mark, colour) in MARKS.items():
        scores = [(night.number, night.score) for night in nights if night.score and night.verdict is verdict]
        for number, score in scores:
            axes.plot([number] * 2, [100 * score.low, 100 * score.high], color=colour, linewidth=1.5)
        if scores:
            across, up = [number for number, _ in scores], [100 * score.mean for _, score in scores]
            axes.plot(across, up, mark, color=colour, markersize=6, label=str(verdict))
    figure.legend(loc="outside upper left", ncols=3, handletextpad=0.3, columnspacing=1.2)
    axes.set_xlim(nights[0].number - 0.5, nights[-1].number + 0.5)
    axes.set_xlabel("night (number in the ledger)")
    axes.set_ylabel(f"{nights[-1].metric} (%)")
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    axes.margins(y=0.1)
    said = "; ".join(f"{night.number}: {percent(night.score.mean)} {night.verdict}" for night in nights if night.score)
    return finish(figure, f"Scores of {name} by night, target {value:.1f}%: {said}.")
