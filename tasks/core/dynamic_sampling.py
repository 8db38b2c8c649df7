"""Dynamic sampling without its trainer: which groups teach something, what to sample next, one batch of several.

DAPO, §3.2 (arXiv:2503.14476). Shapes: B completions of this process, G of them a group, F reward functions.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import pad

from tasks.core.generation import weighted_sums

Chosen = tuple[Mapping[str, Any], list[int]]
"""What TRL makes of one generation, and which of its rows to take."""


def groups_with_signal(
    rewards_BF: torch.Tensor, weights_F: torch.Tensor, num_generations: int, aggregation: str
) -> list[int]:
    """The groups whose rewards differ, so that their advantages are not all 0.

    What is compared is the weighted sum; with TRL's `normalize_then_sum`, which normalises each function by itself,
    every function of a weight other than 0. A completion without any reward (NaN) is left out of its group.
    """
    if aggregation == "normalize_then_sum":
        parts_BF = rewards_BF * weights_F.to(rewards_BF.device)
    else:
        parts_BF = weighted_sums(rewards_BF, weights_F).unsqueeze(1)
    parts_NGF = parts_BF.view(-1, num_generations, parts_BF.shape[1])
    lowest_NF = parts_NGF.nan_to_num(nan=torch.inf).amin(dim=1)
    highest_NF = parts_NGF.nan_to_num(nan=-torch.inf).amax(dim=1)  # below the lowest where all are NaN
    return [group for group, differs in enumerate((highest_NF > lowest_NF).any(dim=1)) if differs]


def num_refills(num_missing: int, num_kept: int, num_sampled: int, num_groups: int) -> int:
    """Groups to sample for `num_missing` ones, if as many are kept as so far; at most `num_groups`, a batch."""
    return min(num_groups, -(-num_missing * num_sampled // max(1, num_kept)))


def refill_order(num_problems: int, num_wanted: int, seed: int, step: int, generation: int) -> list[int]:
    """`num_wanted` problems to refill one batch from, with a stream for each seed, step and generation of the step.

    No problem comes twice before all have come. The data loader's order is not touched, so that a resumed run sees the
    same problems, here and there.
    """
    stream = random.Random(f"dynamic sampling {seed} {step} {generation}")
    order = stream.sample(range(num_problems), min(num_problems, num_wanted))
    return [order[i % len(order)] for i in range(num_wanted)]


def used_groups(kept: Sequence[Sequence[int]], num_groups: int) -> list[list[int]]:
    """For each round the groups to train on, `num_groups` in all, given those with a signal.

    The earliest of them; then, where they are too few, the first round's other groups, in its order.
    """
    used: list[list[int]] = []
    for groups in kept:
        used.append(list(groups[: num_groups - sum(map(len, used))]))
    without = [group for group in range(num_groups) if group not in kept[0]]
    used[0] = sorted(used[0] + without[: num_groups - sum(map(len, used))])
    return used


def join_rows(chosen: Sequence[Chosen], pad_token_id: int) -> dict[str, Any]:
    """One batch of the chosen rows of several generations, which TRL has padded to different lengths.

    Prompts are padded on the left, all else on the right. Padding is `pad_token_id` for tokens and 1 for `tool_mask`,
    as TRL's own, and 0 elsewhere, where the masks hide it. Values without rows (num_items_in_batch) are left out.
    """
    batch: dict[str, Any] = {}
    for key, first in chosen[0][0].items():
        assert isinstance(first, torch.Tensor), f"{key}: rollouts of text are tensors"
        if first.dim() == 0:
            continue
        fill = pad_token_id if key.endswith("_ids") else int(key == "tool_mask")
        values = [output[key][rows] for output, rows in chosen]
        if first.dim() == 2:
            width = max(value.shape[1] for value in values)
            values = [_widened(value, width, fill, on_the_left=key.startswith("prompt_")) for value in values]
        batch[key] = torch.cat(values)
    return batch


def _widened(value_BT: torch.Tensor, width: int, fill: int, *, on_the_left: bool) -> torch.Tensor:
    missing = width - value_BT.shape[1]
    return pad(value_BT, (missing, 0) if on_the_left else (0, missing), value=fill)


def average_rounds(logged: Sequence[Mapping[str, float]], sizes: Sequence[int]) -> dict[str, float]:
    """One value of each of TRL's metrics over all that the rounds sampled, `sizes` completions each.

    Means weighted by size, which is exact for means and close for standard deviations; the lowest of `…min…`, the
    highest of `…max…`. NaN is a mean of nothing and has no weight; NaN where a metric has nothing else.
    """
    averages = {}
    for key in {key: None for metrics in logged for key in metrics}:
        values = [(metrics[key], size) for metrics, size in zip(logged, sizes, strict=True) if key in metrics]
        values = [(value, size) for value, size in values if value == value]
        if not values:
            averages[key] = float("nan")
        elif (name := key.rpartition("/")[2]).startswith(("min", "max")):
            averages[key] = (min if name.startswith("min") else max)(value for value, _ in values)
        else:
            total = sum(size for _, size in values)
            averages[key] = sum(value * (size / total) for value, size in values)
    return averages
