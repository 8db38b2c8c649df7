"""Plots as inline SVG: text stays text, colours are CSS variables, so one drawing serves light and dark pages.

Legend: drawings are in points; the page scales them to the width of their box (about 360 px on every screen).
"""

import functools
import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ParamSpec

from markupsafe import Markup

from tasks.core.report.curves import Curve
from tasks.core.report.evaluations import Evaluation
from tasks.core.report.text import label, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
WIDTH_IN, HEIGHT_IN = 5.2, 3.1
MAX_POINTS = 400  # points of one line: more cannot be told apart at this size
# Okabe and Ito's palette, which stays distinct with the common colour blindnesses; the CSS holds both themes' shades.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, MUTED, GRID = "#1c1d21", "#5c6069", "#e3e3de"
VARIABLES = {colour: f"var(--series-{index})" for index, colour in enumerate(SERIES, start=1)}
VARIABLES |= {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)"}
DASHES = ("-", "--", "-.", ":", (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (1, 1)))
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11.5,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "path.simplify": False,
}


def styled(draw: Callable[P, Markup]) -> Callable[P, Markup]:
    """Run a drawing function under STYLE, and leave matplotlib's own settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Markup:
        from matplotlib import rc_context

        with rc_context(STYLE), warnings.catch_warnings():
            # The browser draws the text with its own fonts; matplotlib only measures it, with one that lacks Chinese.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            return draw(*args, **kwargs)

    return wrapper


@styled
def draw_curve(curve: Curve) -> Markup:
    """Raw points with the running mean over them, by optimizer step."""
    axes, figure = start(HEIGHT_IN)
    for index, line in enumerate(curve.lines):
        colour = SERIES[index % len(SERIES)]
        keep = slice(None, None, -(-len(line.steps) // MAX_POINTS))
        steps, values, smooth = line.steps[keep], line.values[keep], line.smooth[keep]
        _draw_points(axes, steps, values, colour, faint=line.window > 1)
        axes.plot(
            steps, smooth, color=colour, linestyle=DASHES[index % len(DASHES)], linewidth=2, label=label(line.label, 28)
        )
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(curve.axis)
    axes.margins(x=0.02, y=0.08)
    if len(curve.lines) > 1:
        figure.legend(loc="outside upper left", ncols=2, handlelength=2.2, columnspacing=1.2)
    return finish(figure, f"{curve.title} ({curve.axis}) by optimizer step: {describe(curve)}.")


def describe(curve: Curve) -> str:
    """The curve in words: the mean of each line over the first and the last tenth of its logged steps."""
    return "; ".join(f"{label(line.label)} {_short(line.start)} → {_short(line.end)}" for line in curve.lines)


@styled
def draw_accuracies(evaluations: Sequence[Evaluation], colours: Sequence[str]) -> Markup:
    """One row an evaluation, in the run's order from top to bottom: accuracy as a point with its 95 % interval."""
    axes, figure = start(max(2.2, 0.85 + 0.42 * len(evaluations)))
    sentences = []
    for row, (evaluation, colour) in enumerate(zip(evaluations, colours, strict=True)):
        accuracy = evaluation.accuracy
        assert accuracy
        low = accuracy.mean if accuracy.low is None else accuracy.low
        high = accuracy.mean if accuracy.high is None else accuracy.high
        axes.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=3, solid_capstyle="round")
        axes.plot([100 * accuracy.mean], [row], "o", color=colour, markersize=9)
        axes.text(100 * accuracy.mean, row - 0.22, percent(accuracy.mean), ha="center", va="bottom")
        sentences.append(f"{evaluation.step.name} {percent(accuracy.mean)}, {percent(low)} to {percent(high)}")
    axes.set_yticks(range(len(evaluations)), [label(one.step.name, 22) for one in evaluations])
    axes.set_ylim(len(evaluations) - 0.5, -0.75)
    highest = max(axes.dataLim.x1, 1.0)
    axes.set_xlim(0, 100 if highest > 80 else 1.2 * highest)
    axes.set_xlabel("accuracy (%), 95% interval")
    return finish(figure, f"Accuracy of each evaluation with its 95% interval: {'; '.join(sentences)}.")


@styled
def draw_lengths(evaluations: Sequence[Evaluation], colours: Sequence[str]) -> Markup:
    """Histograms of the completions' lengths as step lines, one an evaluation, on shared bins."""
    axes, figure = start(HEIGHT_IN)
    longest = max(max(one.num_tokens) for one in evaluations)
    width = -(-(longest + 1) // 40)  # a whole number of tokens, or some bins would span one length more than others
    num_bins = longest // width + 1
    edges = [width * index for index in range(num_bins + 1)]
    for evaluation, colour, dash in zip(evaluations, colours, DASHES, strict=False):
        shares = [0.0] * num_bins
        for length in evaluation.num_tokens:
            shares[length // width] += 100 / len(evaluation.num_tokens)
        axes.stairs(shares, edges, color=colour, linewidth=2, linestyle=dash, label=label(evaluation.step.name, 28))
    axes.set_xlabel("length of a completion (tokens)")
    axes.set_ylabel("% of completions")
    axes.margins(x=0.01)
    figure.legend(loc="outside upper left", ncols=2, handlelength=2.2, columnspacing=1.2)
    return finish(figure, f"Distribution of completion lengths: {', '.join(one.step.name for one in evaluations)}.")


def start(height_in: float) -> "tuple[Axes, Figure]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(left=False, bottom=False)
    axes.grid(color=GRID, linewidth=1)
    axes.set_axisbelow(True)
    axes.locator_params(nbins=6)
    return axes, figure


def _draw_points(axes: "Axes", steps: Sequence[float], values: Sequence[float], colour: str, *, faint: bool) -> None:
    """All points as one path of dots, which takes a quarter of the bytes of a marker each.

    A dot is a line with round caps too short to see; matplotlib drops a line of no length.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    nudge = (steps[-1] - steps[0] or 1) * 1e-4
    vertices = [point for x, y in zip(steps, values, strict=True) for point in ((x, y), (x + nudge, y))]
    path = Path(vertices, [Path.MOVETO, Path.LINETO] * len(steps))
    alpha = 0.3 if faint else 0.9
    axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, alpha=alpha, linewidth=4, capstyle="round"))
    axes.update_datalim(vertices)


def finish(figure: "Figure", description: str) -> Markup:
    """Render to an <svg> element that the page can take in: labelled, scalable, no ids to clash, themed colours."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": description}):
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r'(?<= )(?:d|x|y|transform)="[^"]*"', _round_numbers, svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    svg = re.sub("|".join(VARIABLES), lambda match: VARIABLES[match.group()], svg)
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box
    start = Markup('<svg class="plot" role="img" aria-label="{}" {}>').format(description, Markup(view_box.group()))
    return start + Markup(svg[svg.index(">") + 1 :])


def _round_numbers(attribute: re.Match[str]) -> str:
    """Cut coordinates to a tenth of a point, which is below one pixel."""
    return re.sub(r"(\d\.\d)\d+", r"\1", attribute.group())


def _short(value: float) -> str:
    return (f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}").replace("-", "−")
