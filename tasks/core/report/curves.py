"""The curves of a training stage, read from the history that TRL logged."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.report.run import as_number

MAX_LINES = 6  # lines in one plot: as many as the palette tells apart
SMOOTHED_FROM = 12  # logged steps below which a running mean says no more than the points


@dataclass(frozen=True)
class Line:
    """One logged quantity: raw values by optimizer step, and a centred running mean over `window` logged steps."""

    label: str
    steps: list[float]
    values: list[float]
    smooth: list[float]
    window: int

    @property
    def start(self) -> float:
        """Mean of the first tenth of the logged values."""
        return _mean(self.values[: max(1, len(self.values) // 10)])

    @property
    def end(self) -> float:
        """Mean of the last tenth of the logged values."""
        return _mean(self.values[-max(1, len(self.values) // 10) :])


@dataclass(frozen=True)
class Curve:
    """One plot: what it shows, the y axis with its unit, and its lines."""

    title: str
    axis: str
    lines: list[Line]


# (title, y axis, ((key of the history, label), …), factor); a plot with no logged key is left out.
Plots = tuple[tuple[str, str, tuple[tuple[str, str], ...], float], ...]
ROLLOUT_PLOTS: Plots = (
    ("Mean response length", "tokens", (("completions/mean_length", "mean"),), 1),
    ("Longest response", "tokens", (("completions/max_length", "longest"),), 1),
    ("Responses cut off at the limit", "% of responses", (("completions/clipped_ratio", "cut off"),), 100),
    ("Groups whose rewards are all equal", "% of groups", (("frac_reward_zero_std", "no variance"),), 100),
    ("Groups kept by dynamic sampling", "% of groups", (("dynamic_sampling/kept_share", "kept"),), 100),
    ("KL from the reference model", "nats per token", (("kl", "KL"),), 1),
    ("Entropy of the policy", "nats per token", (("entropy", "entropy"),), 1),
)
PLOTS: dict[str, Plots] = {
    "train_grpo": (*ROLLOUT_PLOTS, ("Loss", "GRPO loss", (("loss", "loss"), ("eval_loss", "held out")), 1)),
    "train_ppo": (
        *ROLLOUT_PLOTS,
        ("Loss", "PPO loss", (("loss", "policy and critic"), ("value_loss", "critic")), 1),
        ("Variance of the returns that the critic explains", "share", (("explained_variance", "explained"),), 1),
    ),
    "train_sft": (
        ("Loss", "nats per token", (("loss", "train"), ("eval_loss", "held out")), 1),
        ("Next-token accuracy", "% of tokens", (("mean_token_accuracy", "train"),), 100),
    ),
}


def read_history(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The objects of a history.jsonl, and how many lines were none (an interrupted write can leave one)."""
    rows, num_unreadable = [], 0
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(text) if text.strip() else {}
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            num_unreadable += 1
    return rows, num_unreadable


def curves_of(stage: str, history: Sequence[dict[str, Any]]) -> list[Curve]:
    """The plots of one training stage: reward first, then those of PLOTS for which something was logged."""
    curves = [] if stage == "train_sft" else _reward_curves(history)
    for title, axis, keys, factor in PLOTS[stage]:
        lines = [line for key, name in keys if (line := read_line(history, key, name, factor))]
        if lines:
            curves.append(Curve(title, axis, lines))
    return curves


def _reward_curves(history: Sequence[dict[str, Any]]) -> list[Curve]:
    total = read_line(history, "reward", "total")
    curves = [Curve("Mean reward", "reward", [total])] if total else []
    keys = dict.fromkeys(key for row in history for key in row if key.startswith("rewards/") and key.endswith("/mean"))
    names = {key: key.removeprefix("rewards/").removesuffix("/mean") for key in keys}
    lines = [line for key, name in names.items() if (line := read_line(history, key, name))]
    for first in range(0, len(lines), MAX_LINES):
        curves.append(Curve("Mean of each reward", "reward before weighting", lines[first : first + MAX_LINES]))
    return curves


def read_line(history: Sequence[dict[str, Any]], key: str, name: str, factor: float = 1) -> Line | None:
    """One quantity over the steps at which it was logged as a finite number, times `factor`; None when it never was.

    A step that a resumed training logged twice keeps its last value.
    """
    by_step: dict[float, float] = {}
    for index, row in enumerate(history, start=1):
        value, step = as_number(row.get(key)), as_number(row.get("step"))
        if value is not None:
            by_step[index if step is None else step] = value * factor
    if not by_step:
        return None
    steps = sorted(by_step)
    values = [by_step[step] for step in steps]
    window = 1 if len(values) < SMOOTHED_FROM else 2 * max(1, len(values) // 30) + 1
    return Line(name, steps, values, running_mean(values, window), window)


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Centred mean over `window` (odd) values; near the ends over those of them that exist."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    means = []
    for index in range(len(values)):
        first, end = max(0, index - window // 2), min(len(values), index + window // 2 + 1)
        means.append((sums[end] - sums[first]) / (end - first))
    return means


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
