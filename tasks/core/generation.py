"""One generation of rollouts: what was sampled, what it scored, and its rows of completions.parquet.

Shapes: B completions of this process, G of them a group, F reward functions.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tasks.core.rewards.text import text_of


@dataclass(frozen=True)
class Generation:
    """What TRL made of one batch of prompts, and what went into that."""

    output: dict[str, Any]
    """TRL's training batch: tensors with B rows, and num_items_in_batch."""
    inputs: list[dict[str, Any]]
    """B rows of the data set, each repeated G times."""
    completions: list[Any]
    completion_ids: list[list[int]]
    """Without padding."""
    rewards_BF: torch.Tensor
    """NaN where a function gave None."""
    verdicts: list[str | None]

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(
        self, reward_names: Sequence[str], weights_F: torch.Tensor, end_ids: Collection[int], used: Collection[int]
    ) -> list[dict[str, Any]]:
        """The columns of completions.parquet but `step`; `used` are the rows that are trained on."""
        rewards_BF = self.rewards_BF.cpu()
        columns = {"reward": weighted_sums(rewards_BF, weights_F), "advantage": self._advantages().cpu()}
        columns |= {f"reward_{name}": rewards_BF[:, i] for i, name in enumerate(reward_names)}
        numbers = {name: [_number(value) for value in column.tolist()] for name, column in columns.items()}
        return [
            {
                "problem_id": self.inputs[i].get("problem_id"),
                "task": self.inputs[i].get("task"),
                "completion": text_of(self.completions[i]),
                "num_tokens": len(self.completion_ids[i]),
                "is_truncated": self.completion_ids[i][-1] not in end_ids,
                "verdict": self.verdicts[i],
                "is_used": i in used,
                **{name: values[i] for name, values in numbers.items()},
            }
            for i in range(len(self))
        ]

    def _advantages(self) -> torch.Tensor:
        advantages: torch.Tensor = self.output["advantages"]
        if advantages.dim() == 1:
            return advantages
        mask_BT = self.output["completion_mask"]  # one for each token: their mean
        return (advantages * mask_BT).sum(dim=1) / mask_BT.sum(dim=1).clamp(min=1)


def weighted_sums(rewards_BF: torch.Tensor, weights_F: torch.Tensor) -> torch.Tensor:
    """rewards_B as TRL sums them: a function that gave none adds nothing; NaN where none gave one."""
    sums_B = (rewards_BF * weights_F.to(rewards_BF.device)).nansum(dim=1)
    return sums_B.masked_fill(rewards_BF.isnan().all(dim=1), torch.nan)


def _number(value: float) -> float | None:
    """None for NaN."""
    return value if value == value else None
