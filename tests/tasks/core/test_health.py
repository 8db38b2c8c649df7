"""The verdict on a training's log rows: what ends it, what is only told, what a healthy run may look like."""

import math
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.core.health import BasicHealth, Checkup, Health, Verdict

GOOD = {
    "loss": 0.1, "grad_norm": 1.0, "reward": 0.5, "reward_std": 0.4, "frac_reward_zero_std": 0.0, "entropy": 0.8,
    "completions/mean_length": 200.0, "completions/clipped_ratio": 0.1,
}  # fmt: skip
LENGTH = "completions/mean_length"
ZERO = {"reward": 0.0, "reward_std": 0.0, "frac_reward_zero_std": 1.0}


def rows(num: int, since: int = 1, every: int = 1, **changed: Any) -> Iterator[dict[str, Any]]:
    """Rows of steps since, since + every ..."""
    for step in range(since, since + num * every, every):
        yield GOOD | changed | {"step": step}


def judged(checkup: Checkup, *parts: Iterator[dict[str, Any]]) -> tuple[int, Verdict] | None:
    """The step of the row at which the verdict fell, and the verdict."""
    for part in parts:
        for row in part:
            if verdict := checkup.see(row):
                return row["step"], verdict
    return None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"loss": math.nan}, "loss nan at step 3"),
        ({"grad_norm": math.inf}, "grad_norm inf at step 3"),
        ({"grad_norm": -1.0}, "grad_norm -1.0 at step 3"),
        ({"entropy": None}, "entropy NaN (the logits are) at step 3"),
    ],
)
def test_checkup_nan_ends_at_once(row: dict[str, Any], said: str) -> None:
    found = judged(Checkup(BasicHealth()), rows(2), rows(1, since=3, **row))
    assert found and found[0] == 3 and found[1].since_step == 3
    assert found[1].text.startswith(said) and "lower learning_rate" in found[1].text


def test_checkup_nan_in_steps_that_fp16_skips_ends_only_when_all_are_skipped() -> None:
    checkup = Checkup(BasicHealth(patience_steps=3))
    overflow = [GOOD | {"step": step, "grad_norm": math.inf} for step in (1, 2, 3)]
    assert [bool(checkup.see(row, was_skipped=True)) for row in overflow] == [False, False, True]


def test_checkup_zero_reward_counts_steps_and_not_rows() -> None:
    # Good to step 10; from then on a row is the mean of 10 steps. 200 steps without reward are full at step 210.
    found = judged(Checkup(Health()), rows(1, since=10), rows(40, since=20, every=10, **ZERO))
    assert found and found[0] == 210
    assert found[1].text.startswith("every reward was 0 for 200 steps, to step 210.") and found[1].since_step == 11


def test_checkup_rows_of_reused_completions_have_no_reward_and_do_not_end_a_streak() -> None:
    bare = {"loss": 0.1, "grad_norm": 1.0, "entropy": 0.8}
    checkup = Checkup(Health(max_zero_reward_steps=6))
    seen = [checkup.see({**(GOOD | ZERO if step % 2 else bare), "step": step}) for step in range(1, 8)]
    assert [step for step, verdict in enumerate(seen, start=1) if verdict] == [7]  # at 5 it was five steps


@pytest.mark.parametrize(
    "healthy",
    [
        [rows(150, **ZERO), rows(50)],  # R1-Zero finds its first answer at step 151
        [rows(300, reward=-0.5, reward_std=0.3)],  # cosine
        [rows(300, reward=-1.0, reward_std=0.0, frac_reward_zero_std=1.0)],  # nothing but full penalties: told, below
        [rows(30, reward=0.1), rows(300, since=31, reward=1.0, reward_std=0.0, entropy=1e-5)],  # solved
        [rows(20, reward=0.1, **{LENGTH: 4096.0}), rows(99, since=21, **{LENGTH: 60.0})],
        [rows(99, **{"completions/mean_length": 1.0})],  # the task wants one token
        [rows(99, reward=None, reward_std=None, **{"completions/clipped_ratio": 1.0, "entropy": 0.0})],
        [rows(99, **{"sampling/sampling_logp_difference/mean": 0.2})],
    ],
)  # fmt: skip
def test_checkup_leaves_healthy_runs_alone(healthy: list[Iterator[dict[str, Any]]]) -> None:
    assert judged(Checkup(Health()), *healthy) is None


def test_checkup_collapse_of_length_ends_a_run_whose_reward_has_not_risen() -> None:
    short = {"completions/mean_length": 3.0, "reward": 0.1}
    found = judged(Checkup(Health()), rows(15), rows(40, since=16, **short))
    assert found and found[0] == 35 and found[1].since_step == 16  # 20 steps
    seen = "completions had 3.0 tokens on average at step 35, after 200.0 at the start, below 4.0 for 20 steps"
    assert found[1].text.startswith(f"{seen}, and the reward went from 0.5 to 0.1.")


def test_checkup_collapse_with_a_better_reward_is_a_warning_unless_the_recipe_says_otherwise() -> None:
    def run(health: Health) -> tuple[Checkup, tuple[int, Verdict] | None]:
        checkup = Checkup(health)
        return checkup, judged(checkup, rows(15), rows(40, since=16, entropy=1e-4, reward=0.9))

    checkup, found = run(Health())
    assert found is None
    assert checkup.warnings == [
        "the policy's entropy was 0.0001 nats a token at step 35, below 0.001 for 20 steps, while the reward rose from "
        "0.5 to 0.9"
    ]
    assert run(Health(min_entropy=None))[1] is None
    strict = run(Health(ignore_if_better=False))[1]
    assert strict and strict[0] == 35 and "raise temperature" in strict[1].text


def test_checkup_other_policy_in_vllm_ends_the_run() -> None:
    found = judged(Checkup(Health()), rows(5), rows(30, since=6, **{"sampling/sampling_logp_difference/mean": 2.5}))
    assert found and found[0] == 25
    assert found[1].text.startswith(
        "vLLM and the trainer differed by 2.5 nats a token at step 25, above 1 for 20 steps"
    )


def test_checkup_warns_once_of_clipped_completions_and_of_groups_that_are_all_alike() -> None:
    checkup = Checkup(Health())
    changed = {"completions/clipped_ratio": 1.0, "frac_reward_zero_std": 1.0, "reward": 1.0}
    assert judged(checkup, rows(60, **changed)) is None
    assert [warning.split(":")[0] for warning in checkup.warnings] == [
        "nearly all completions reached max_completion_length for 20 steps, to step 20",
        "in every group all rewards were equal for 20 steps, to step 20",
    ]


def test_checkup_of_a_resumed_run_comes_to_the_same_verdict() -> None:
    whole, resumed = Checkup(Health()), Checkup(Health())
    history = [*rows(10), *rows(195, since=11, **ZERO)]
    for row in history:
        assert resumed.see(row, was_skipped=True) is None and whole.see(row) is None
    rest = [*rows(20, since=206, **ZERO)]
    assert judged(resumed, iter(rest)) == judged(whole, iter(rest)) and resumed.warnings == whole.warnings


def test_checkup_of_sft_looks_for_nan_only() -> None:
    assert judged(Checkup(BasicHealth()), rows(300, **ZERO, entropy=0.0)) is None
