"""When a training has gone wrong: what to look for in its log rows, and what to say of it.

The rows are those that TRL logs, so what is found does not depend on the hardware. A resumed training shows its
earlier rows first and comes to the same verdicts as one that was never interrupted. The defaults are meant never to
end a healthy training: an R1-Zero run may earn nothing for its first hundred steps, a reward may be negative, and a
task may be solved so well that the policy has no entropy left. Who wants a stricter watch sets the bounds.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

FIRST_ROWS = 10  # rows with a reward or a length that say where the training began
CLIPPED_SHARE = 0.99  # of the completions that reach max_completion_length: about all

NAN = (
    "From here on the weights would be lost. Usual causes are too high a learning rate, no warm-up, or fp16: lower "
    "learning_rate, set warmup_steps, lower max_grad_norm, train with bf16: true; if it is the first step, the "
    "checkpoint that the training began with may hold NaN itself."
)
ZERO_REWARD = (
    "Steps without any reward teach nothing. Usually no answer is found in the completions (chat template, format, too "
    "small a max_completion_length) or the problems are too hard: read some completions, give a reward for the format "
    "as well, run train_sft first, choose easier problems, or raise num_generations. If all is well, raise "
    "health.max_zero_reward_steps."
)
LENGTH = (
    "The policy has usually found an empty or fixed answer: lower learning_rate, raise beta, look for a reward that is "
    "earned without an answer or that punishes length (cosine, length, soft_overlong_punishment). If short answers are "
    "right here, lower health.min_length_share."
)
ENTROPY = (
    "The policy always says the same and cannot find anything better: lower learning_rate, raise temperature, raise "
    "epsilon_high (0.28 in DAPO), set beta, or train fewer steps. If that is right here, lower health.min_entropy."
)
MISMATCH = (
    "So the completions are not those of the policy that is trained. Usually the weights do not reach vLLM, vLLM runs "
    "in another precision, or it has another model or chat template: compare vllm_model_impl, the dtype in "
    "model_init_kwargs and the server's model; vllm_importance_sampling_correction: true mends small differences only."
)


class BasicHealth(BaseModel):
    """When a training is ended because it has gone wrong. Never part of the identity; null switches a check off."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    stop_on_nan: bool = True
    """Stop when the loss, the gradient or the logits are NaN or infinite. A step that fp16's loss scaling skips for an
    overflow is not counted, unless all steps are skipped for `patience_steps`."""
    stall_minutes: float | None = Field(default=120.0, gt=0)
    """Minutes without a finished step, checkpoint or log row after which all stacks go to the log and the process ends,
    to be tried once more. On Slurm `resources.hang_minutes` is often shorter and then comes first."""
    patience_steps: int = Field(default=20, gt=0)
    """So many optimizer steps in a row a state has to last, where nothing else is said."""


class Health(BasicHealth):
    """As BasicHealth, with what only a training on its own rollouts can suffer from."""

    max_zero_reward_steps: int | None = Field(default=200, gt=0)
    """Stop after so many optimizer steps in a row in which every single reward was exactly 0."""
    min_length_share: float | None = Field(default=0.02, gt=0, lt=1)
    """Stop when the mean completion is shorter than this share of the first 10 rows' mean. See `ignore_if_better`."""
    min_length: float | None = Field(default=None, gt=0)
    """Stop when the mean completion has fewer tokens than this. See `ignore_if_better`."""
    min_entropy: float | None = Field(default=1e-3, gt=0)
    """Stop when the policy's mean entropy per token, in nats, is below this. See `ignore_if_better`."""
    ignore_if_better: bool = True
    """A collapse of length or entropy is only a warning while the last 10 rows' mean reward is above the first 10's: a
    short answer, or a sure one, may be what the task rewards."""
    max_logp_difference: float | None = Field(default=1.0, gt=0)
    """Stop when vLLM and the trainer differ by more than this, in nats per token, on the mean log-probability of the
    same completions (TRL's sampling/sampling_logp_difference/mean): 0.01 to 0.1 is usual."""


@dataclass(frozen=True)
class Verdict:
    """Why a training has to end: what was seen, what it means, what to try. `since_step` is the first bad step."""

    text: str
    since_step: int


class Checkup:
    """Looks at the log rows of one training, in their order."""

    def __init__(self, health: BasicHealth) -> None:
        self.health = health
        self._warnings: dict[str, str] = {}
        self._good_until: dict[str, int] = {}  # by what is looked for: the last step at which it was not there
        self._step = self._step_before = 0
        self._rewards: list[float] = []
        self._lengths: list[float] = []

    @property
    def warnings(self) -> list[str]:
        """What a training that need not end has to be told, each once."""
        return list(self._warnings.values())

    def see(self, row: Mapping[str, Any], *, was_skipped: bool = False) -> Verdict | None:
        """The verdict after one more row; None while all is well.

        `was_skipped`: fp16's loss scaling left this step out, so its gradient did no harm.
        """
        if "loss" not in row:  # of an evaluation, or the closing summary
            return None
        self._step_before, self._step = self._step, int(row["step"])
        verdict = self._nonfinite(row, was_skipped) if self.health.stop_on_nan else None
        if verdict is None and isinstance(self.health, Health):
            verdict = self._rollouts(row, self.health)
        return verdict

    def _rollouts(self, row: Mapping[str, Any], health: Health) -> Verdict | None:
        reward, length = _number(row, "reward"), _number(row, "completions/mean_length")
        self._rewards += [] if reward is None else [reward]
        self._lengths += [] if length is None else [length]
        self._warn(row)
        checks: tuple[Callable[[Mapping[str, Any], Health], Verdict | None], ...] = (
            self._zero_reward,
            self._length,
            self._entropy,
            self._mismatch,
        )
        return next((verdict for check in checks if (verdict := check(row, health))), None)

    def _nonfinite(self, row: Mapping[str, Any], was_skipped: bool) -> Verdict | None:
        # DeepSpeed gives -1 as the norm of a gradient that is not finite; TRL gives None as an entropy that is NaN.
        bad = [key for key in ("loss", "grad_norm") if not math.isfinite(row.get(key, 0.0))]
        bad += ["grad_norm"] if row.get("grad_norm", 0.0) < 0 else []
        bad += ["entropy"] if "entropy" in row and row["entropy"] is None else []
        lasted = self._lasted("nan", bool(bad))
        if not bad or (was_skipped and lasted < self.health.patience_steps):
            return None
        what = ", ".join(f"{key} {row[key]}" for key in bad).replace("entropy None", "entropy NaN (the logits are)")
        return self._verdict("nan", f"{what} at step {self._step}", NAN)

    def _zero_reward(self, row: Mapping[str, Any], health: Health) -> Verdict | None:
        reward = _number(row, "reward")
        lasted = self._lasted("zero reward", None if reward is None else reward == row.get("reward_std") == 0.0)
        if health.max_zero_reward_steps is None or lasted < health.max_zero_reward_steps:
            return None
        return self._verdict("zero reward", f"every reward was 0 for {lasted} steps, to step {self._step}", ZERO_REWARD)

    def _length(self, row: Mapping[str, Any], health: Health) -> Verdict | None:
        length = _number(row, "completions/mean_length")
        if length is None or len(self._lengths) <= FIRST_ROWS:
            return None
        first = _mean(self._lengths[:FIRST_ROWS])
        bound = max(health.min_length or 0.0, (health.min_length_share or 0.0) * first)
        lasted = self._lasted("length", length < bound)
        if lasted < health.patience_steps:
            return None
        seen = f"completions had {length:.1f} tokens on average at step {self._step}, after {first:.1f} at the start, "
        return self._collapse("length", f"{seen}below {bound:.1f} for {lasted} steps", LENGTH, health)

    def _entropy(self, row: Mapping[str, Any], health: Health) -> Verdict | None:
        entropy = _number(row, "entropy")
        # With mask_truncated_completions and no completion that ends, TRL's entropy is a mean over nothing: 0.
        is_empty = (_number(row, "completions/clipped_ratio") or 0.0) >= CLIPPED_SHARE
        bound = health.min_entropy or 0.0
        lasted = self._lasted("entropy", None if entropy is None or is_empty else entropy < bound)
        if entropy is None or lasted < health.patience_steps:
            return None
        seen = f"the policy's entropy was {entropy:.2g} nats a token at step {self._step}, below {bound:g} for {lasted}"
        return self._collapse("entropy", f"{seen} steps", ENTROPY, health)

    def _mismatch(self, row: Mapping[str, Any], health: Health) -> Verdict | None:
        difference, bound = _number(row, "sampling/sampling_logp_difference/mean"), health.max_logp_difference
        if difference is None or bound is None:
            return None
        lasted = self._lasted("mismatch", difference > bound)
        if lasted < health.patience_steps:
            return None
        seen = f"vLLM and the trainer differed by {difference:.2g} nats a token at step {self._step}, above {bound:g}"
        return self._verdict("mismatch", f"{seen} for {lasted} steps", MISMATCH)

    def _collapse(self, name: str, seen: str, meaning: str, health: Health) -> Verdict | None:
        """A verdict, or a warning where the reward has risen all the same."""
        first, last = _mean(self._rewards[:FIRST_ROWS]), _mean(self._rewards[-FIRST_ROWS:])
        if health.ignore_if_better and last > first:
            self._warnings.setdefault(name, f"{seen}, while the reward rose from {first:.3g} to {last:.3g}")
            return None
        return self._verdict(name, f"{seen}, and the reward went from {first:.3g} to {last:.3g}", meaning)

    def _warn(self, row: Mapping[str, Any]) -> None:
        clipped, alike = _number(row, "completions/clipped_ratio"), _number(row, "frac_reward_zero_std")
        patience = self.health.patience_steps
        if self._lasted("clipped", None if clipped is None else clipped >= CLIPPED_SHARE) >= patience:
            text = f"nearly all completions reached max_completion_length for {patience} steps, to step {self._step}"
            self._warnings.setdefault("clipped", f"{text}: raise it, or look whether the model ever ends an answer")
        if self._lasted("alike", None if alike is None else alike == 1.0) >= patience:
            text = f"in every group all rewards were equal for {patience} steps, to step {self._step}"
            self._warnings.setdefault("alike", f"{text}: such steps teach nothing (reward {row.get('reward')})")

    def _lasted(self, name: str, is_bad: bool | None) -> int:
        """For how many optimizer steps `name` has been bad up to now; a row that does not tell (None) changes nothing.

        A row is the mean of the steps since the row before it, so it counts for all of them.
        """
        if is_bad is False:
            self._good_until[name] = self._step
        elif is_bad is None:
            return 0
        return self._step - self._good_until.setdefault(name, self._step_before)

    def _verdict(self, name: str, seen: str, meaning: str) -> Verdict:
        return Verdict(f"{seen}. {meaning}", self._good_until[name] + 1)


def _number(row: Mapping[str, Any], key: str) -> float | None:
    """A finite number; None where the row has none."""
    value = row.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
