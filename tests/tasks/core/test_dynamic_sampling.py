"""Dynamic sampling's parts on numbers worked by hand."""

import math

import pytest
import torch

from tasks.core.dynamic_sampling import (
    average_rounds,
    groups_with_signal,
    join_rows,
    num_refills,
    refill_order,
    used_groups,
)

NAN = math.nan


def test_groups_with_signal_are_those_whose_weighted_sums_differ() -> None:
    rewards = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 1.0]])
    assert groups_with_signal(rewards, torch.tensor([1.0, 0.2]), 2, "sum_then_normalize") == [1, 2]
    assert groups_with_signal(rewards, torch.tensor([1.0, 0.5]), 2, "sum_then_normalize") == [1]  # 0.5 = 0.5


def test_groups_with_signal_normalised_first_are_those_where_any_weighted_reward_differs() -> None:
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    assert groups_with_signal(rewards, torch.ones(2), 2, "sum_then_normalize") == [2]
    assert groups_with_signal(rewards, torch.ones(2), 2, "normalize_then_sum") == [0, 2]
    assert groups_with_signal(rewards, torch.tensor([1.0, 0.0]), 2, "normalize_then_sum") == [0]


@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
def test_groups_with_signal_leave_out_completions_that_nothing_scored(aggregation: str) -> None:
    rewards = torch.tensor([[NAN], [NAN], [NAN], [1.0], [NAN], [1.0], [0.0], [1.0], [NAN]])
    assert groups_with_signal(rewards, torch.ones(1), 3, aggregation) == [2]


def test_groups_with_signal_count_a_missing_reward_as_trl_does() -> None:
    rewards = torch.tensor([[1.0, NAN], [1.0, 0.0], [1.0, NAN], [1.0, 0.5]])
    assert groups_with_signal(rewards, torch.ones(2), 2, "sum_then_normalize") == [1]


@pytest.mark.parametrize(
    ("missing", "kept", "sampled", "batch", "refills"),
    [(1, 15, 16, 16, 2), (4, 12, 16, 16, 6), (12, 4, 16, 16, 16), (16, 0, 16, 16, 16), (2, 14, 32, 16, 5)],
)
def test_num_refills_is_what_is_missing_over_the_share_kept(
    missing: int, kept: int, sampled: int, batch: int, refills: int
) -> None:
    assert num_refills(missing, kept, sampled, batch) == refills


def test_refill_order_is_its_own_stream_for_each_generation_and_without_repeats() -> None:
    order = refill_order(10, 10, seed=0, step=3, generation=0)
    assert sorted(order) == list(range(10))
    assert order == refill_order(10, 10, 0, 3, 0)
    others = [refill_order(10, 10, *place) for place in ((1, 3, 0), (0, 4, 0), (0, 3, 1))]
    assert all(other != order for other in others)
    twice = refill_order(3, 7, 0, 0, 0)
    assert twice == (twice[:3] * 3)[:7]


def test_used_groups_are_the_earliest_and_then_the_first_rounds_others() -> None:
    assert used_groups([[0, 2], [1], [0, 1, 3]], 4) == [[0, 2], [1], [0]]
    assert used_groups([[2], [1]], 4) == [[0, 1, 2], [1]]
    assert used_groups([[], []], 2) == [[0, 1], []]


def test_join_rows_pads_prompts_left_and_everything_else_right() -> None:
    short = {
        "prompt_ids": torch.tensor([[5, 6], [7, 8]]),
        "completion_ids": torch.tensor([[1], [2]]),
        "completion_mask": torch.tensor([[1], [1]]),
        "tool_mask": torch.tensor([[1], [0]]),
        "old_per_token_logps": torch.tensor([[-1.0], [-2.0]]),
        "importance_sampling_ratio": torch.tensor([[0.5], [0.6]]),  # one a sequence
        "advantages": torch.tensor([0.1, 0.2]),
        "num_items_in_batch": torch.tensor(2),
    }
    long = {
        "prompt_ids": torch.tensor([[9, 9, 9]]),
        "completion_ids": torch.tensor([[3, 4, 4]]),
        "completion_mask": torch.tensor([[1, 1, 1]]),
        "tool_mask": torch.tensor([[1, 0, 1]]),
        "old_per_token_logps": torch.tensor([[-3.0, -4.0, -5.0]]),
        "importance_sampling_ratio": torch.tensor([[0.7]]),
        "advantages": torch.tensor([0.3]),
        "num_items_in_batch": torch.tensor(3),
    }
    joined = join_rows([(short, [1]), (long, [0])], pad_token_id=77)
    assert joined.pop("old_per_token_logps").tolist() == [[-2.0, 0.0, 0.0], [-3.0, -4.0, -5.0]]
    assert joined.pop("importance_sampling_ratio").flatten().tolist() == pytest.approx([0.6, 0.7])
    assert joined.pop("advantages").tolist() == pytest.approx([0.2, 0.3])
    assert {key: value.tolist() for key, value in joined.items()} == {
        "prompt_ids": [[77, 7, 8], [9, 9, 9]],
        "completion_ids": [[2, 77, 77], [3, 4, 4]],
        "completion_mask": [[1, 0, 0], [1, 1, 1]],
        "tool_mask": [[0, 1, 1], [1, 0, 1]],
    }


def test_average_rounds_weighs_by_completions_and_leaves_out_means_of_nothing() -> None:
    first = {"reward": 0.25, "completions/min_length": 3.0, "completions/max_length": 9.0, "rewards/min_x/mean": NAN}
    second = {"reward": 0.75, "completions/min_length": 5.0, "completions/max_length": 8.0, "rewards/min_x/mean": NAN}
    averages = average_rounds([first, second], [6, 2])
    assert averages.pop("reward") == 0.375  # 0.25 * 3/4 + 0.75 * 1/4
    assert math.isnan(averages.pop("rewards/min_x/mean"))
    assert averages == {"completions/min_length": 3.0, "completions/max_length": 9.0}
    assert average_rounds([{"reward": 0.1}, {"reward": NAN}], [7, 2]) == {"reward": 0.1}
