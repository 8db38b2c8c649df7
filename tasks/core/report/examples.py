"""The sampled completions of the page: the same problems before and after, chosen by a seeded and stated rule."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.core.report.evaluations import RIGHT, Comparison, Evaluation, completions_path

GROUPS = ("improved", "got worse", "both right", "both wrong")
RULE = (
    "Each problem that both evaluations asked falls into one of four groups by the verdicts of its first sample before "
    "and its first sample after. The places are shared out in proportion to the groups' sizes, except that every group "
    "that occurs has at least one place; within a group the problems are drawn at random with a fixed seed. "
    "Nothing is picked by hand."
)


@dataclass(frozen=True)
class Completion:
    """What one model wrote, with its verdict."""

    text: str
    verdict: str
    num_tokens: int | None
    truncated: bool

    @property
    def is_right(self) -> bool:
        """Whether the verdict counts as right."""
        return self.verdict in RIGHT


@dataclass(frozen=True)
class Example:
    """One problem with its two completions; texts are whole, the page bounds them."""

    problem_id: str
    group: str
    prompt: str
    answer: str
    before: Completion
    after: Completion


def group_problems(comparison: Comparison) -> dict[str, list[str]]:
    """The shared problems by group, each list sorted; every group of GROUPS is a key."""
    grouped: dict[str, list[str]] = {group: [] for group in GROUPS}
    before_right, after_right = comparison.before.right, comparison.after.right
    names = {(0, 1): "improved", (1, 0): "got worse", (1, 1): "both right", (0, 0): "both wrong"}
    for problem_id in comparison.shared:
        grouped[names[int(before_right[problem_id][0]), int(after_right[problem_id][0])]].append(problem_id)
    return grouped


def allot(sizes: Mapping[str, int], num_places: int) -> dict[str, int]:
    """Share `num_places` out in proportion to `sizes`, at least one for each that is not empty, never above its size.

    Places go one at a time to whichever is furthest below its quota (the earlier one in a tie). With fewer places than
    non-empty groups the largest groups get them.
    """
    total = sum(sizes.values())
    places = dict.fromkeys(sizes, 0)
    for name in sorted((name for name in sizes if sizes[name]), key=lambda name: -sizes[name])[:num_places]:
        places[name] = 1
    for _ in range(min(num_places, total) - sum(places.values())):
        open_groups = [name for name in sizes if places[name] < sizes[name]]
        furthest = max(open_groups, key=lambda name: sizes[name] / total * num_places - places[name])
        places[furthest] += 1
    return places


def pick_examples(comparison: Comparison, num_examples: int, seed: int) -> list[Example]:
    """Draw the examples by RULE, in the order of GROUPS. Reads the texts of the chosen problems only."""
    grouped = group_problems(comparison)
    places = allot({group: len(problems) for group, problems in grouped.items()}, num_examples)
    generator = random.Random(seed)
    chosen = {
        problem_id: group for group in GROUPS for problem_id in sorted(generator.sample(grouped[group], places[group]))
    }
    before, after = _first_samples(comparison.before, chosen), _first_samples(comparison.after, chosen)
    return [
        Example(
            problem_id=problem_id,
            group=group,
            prompt=str(after[problem_id].get("prompt") or ""),
            answer=str(after[problem_id].get("answer") or ""),
            before=_completion(before[problem_id]),
            after=_completion(after[problem_id]),
        )
        for problem_id, group in chosen.items()
    ]


def _first_samples(evaluation: Evaluation, chosen: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The row with the lowest sample number of each chosen problem."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(completions_path(evaluation), filters=[("problem_id", "in", list(chosen))])
    rows: dict[str, dict[str, Any]] = {}
    for row in table.sort_by([("sample", "descending")]).to_pylist():
        rows[row["problem_id"]] = row
    return rows


def _completion(row: Mapping[str, Any]) -> Completion:
    text = row.get("completion")
    return Completion(
        text="" if text is None else str(text),
        verdict=str(row.get("verdict")),
        num_tokens=row.get("num_tokens"),
        truncated=bool(row.get("truncated")),
    )
