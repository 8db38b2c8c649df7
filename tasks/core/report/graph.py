"""The stage graph as an SVG: stages in columns from left to right, an arrow from each input to what reads it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from tasks.core.report.run import Step
from tasks.core.report.text import duration, label

NODE_WIDTH, NODE_HEIGHT, COLUMN_GAP, ROW_GAP, MARGIN = 152, 64, 32, 18, 6
PASSING_HEIGHT = 10  # room for an arrow that passes a column between two nodes
NUM_SWEEPS = 6


@dataclass
class Slot:
    """A place in a column: a stage, or (`step` None) the point where a longer arrow passes through."""

    step: Step | None
    column: int
    before: list["Slot"] = field(default_factory=list)
    after: list["Slot"] = field(default_factory=list)
    y: float = 0.0  # of its middle

    @property
    def height(self) -> int:
        """Height in pixels."""
        return NODE_HEIGHT if self.step else PASSING_HEIGHT


def draw_graph(steps: Sequence[Step]) -> Markup:
    """The graph at its natural size in pixels; the page lets it scroll sideways inside its own box."""
    columns = place(steps)
    width = 2 * MARGIN + len(columns) * (NODE_WIDTH + COLUMN_GAP) - COLUMN_GAP
    height = max(slot.y + slot.height / 2 for column in columns for slot in column) + MARGIN
    edges = [_edge(slot, target) for column in columns for slot in column for target in slot.after]
    nodes = [_node(slot) for column in columns for slot in column if slot.step]
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0.5 L7.5 4 L0 7.5 Z"/></marker></defs>'
    )
    summary = "; ".join(f"{one.name} reads {', '.join(one.inputs) or 'nothing'}" for one in steps)
    opening = Markup(
        '<svg class="graph" role="img" width="{0:.0f}" height="{1:.0f}" viewBox="0 0 {0:.0f} {1:.0f}" aria-label="{2}">'
    ).format(width, height, f"Graph of the {len(steps)} stages: {summary}. The table below says the same.")
    return opening + Markup(arrow) + Markup("").join(edges + nodes) + Markup("</svg>")


def place(steps: Sequence[Step]) -> list[list[Slot]]:
    """Give every stage a column (after all that it reads) and a height, with few crossings (Sugiyama's method)."""
    depths = _depths(steps)
    slots = {step.name: Slot(step, depths[step.name]) for step in steps}
    columns: list[list[Slot]] = [[] for _ in range(max(depths.values()) + 1)]
    for slot in slots.values():
        columns[slot.column].append(slot)
    for step in steps:
        for name in step.inputs:
            if name in slots and depths[name] < depths[step.name]:
                _connect(slots[name], slots[step.name], columns)
    for sweep in range(NUM_SWEEPS):
        forward = sweep % 2 == 0
        for column in columns if forward else columns[::-1]:
            _stack(column, forward=forward)
    top = min(slot.y - slot.height / 2 for column in columns for slot in column)
    for slot in (slot for column in columns for slot in column):
        slot.y += MARGIN - top
    return columns


def _depths(steps: Sequence[Step]) -> dict[str, int]:
    """The column of each stage: one after its last input; one without inputs stands just before its first reader."""
    depths: dict[str, int] = {}
    for step in steps:  # a recipe lists its stages in order, so the inputs of a stage have their depth already
        depths[step.name] = 1 + max((depths[name] for name in step.inputs if name in depths), default=-1)
    for step in steps:
        readers = [depths[other.name] for other in steps if step.name in other.inputs]
        if readers and not any(name in depths for name in step.inputs):
            depths[step.name] = max(0, min(readers) - 1)
    return depths


def _connect(source: Slot, target: Slot, columns: list[list[Slot]]) -> None:
    """Link two slots, through a passing slot in every column between them; arrows from one stage share theirs."""
    for column in range(source.column + 1, target.column):
        passing = next((slot for slot in source.after if slot.step is None), None)
        if passing is None:
            passing = Slot(None, column)
            columns[column].append(passing)
            source.after.append(passing)
            passing.before.append(source)
        source = passing
    source.after.append(target)
    target.before.append(source)


def _stack(column: list[Slot], *, forward: bool) -> None:
    """Order a column by the mean height of its neighbours and stack it around them without overlap."""

    def wanted(slot: Slot) -> float:
        neighbours = slot.before if forward else slot.after
        return sum(one.y for one in neighbours) / len(neighbours) if neighbours else slot.y

    wishes = {id(slot): wanted(slot) for slot in column}
    column.sort(key=lambda slot: wishes[id(slot)])
    bottom = float("-inf")
    for slot in column:
        slot.y = max(wishes[id(slot)], bottom + ROW_GAP + slot.height / 2)
        bottom = slot.y + slot.height / 2
    shift = sum(wishes[id(slot)] - slot.y for slot in column) / len(column)
    for slot in column:
        slot.y += shift


def _left(slot: Slot) -> float:
    return MARGIN + slot.column * (NODE_WIDTH + COLUMN_GAP)


def _edge(source: Slot, target: Slot) -> Markup:
    start, end = _left(source) + NODE_WIDTH, _left(target)
    bend = (end - start) / 2
    control_points = f"{start + bend:.0f} {source.y:.1f} {end - bend:.0f} {target.y:.1f}"
    curve = f"M{start:.0f} {source.y:.1f} C{control_points} {end:.0f} {target.y:.1f}"
    if target.step is None:  # the arrow goes on behind the nodes of the column, in the room kept for it
        return Markup(f'<path class="edge" d="{curve} h{NODE_WIDTH}"/>')
    return Markup(f'<path class="edge" d="{curve}" marker-end="url(#arrow)"/>')


def _node(slot: Slot) -> Markup:
    step = slot.step
    assert step
    x, y = _left(slot), slot.y - NODE_HEIGHT / 2
    return Markup(
        '<g class="node state-{state}"><title>{name}: {stage}, {status}</title>'
        '<rect x="{x:.0f}" y="{y:.1f}" width="{width}" height="{height}" rx="9"/>'
        '<text class="name" x="{text_x:.0f}" y="{name_y:.1f}">{short_name}</text>'
        '<text x="{text_x:.0f}" y="{stage_y:.1f}">{stage}</text>'
        '<text class="status" x="{text_x:.0f}" y="{status_y:.1f}">{status}</text></g>'
    ).format(
        state=step.state if step.state.isalpha() else "unknown",
        name=label(step.name, 80),
        short_name=label(step.name, 17),
        stage=label(step.stage, 20),
        status=describe_state(step),
        x=x,
        y=y,
        width=NODE_WIDTH,
        height=NODE_HEIGHT,
        text_x=x + 11,
        name_y=y + 20,
        stage_y=y + 36,
        status_y=y + 52,
    )


def describe_state(step: Step) -> str:
    """The state with its time: for a cached stage the time that its build once took is what the cache saved."""
    symbol = {"cached": "↺ cached", "built": "● built", "failed": "✗ failed"}.get(step.state, label(step.state, 14))
    spent = step.built_in_s if step.state == "cached" or step.wall_s is None else step.wall_s
    return symbol if spent is None else f"{symbol} · {duration(spent)}"
