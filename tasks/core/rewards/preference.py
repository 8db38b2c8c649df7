"""preference: what a reward model thinks of the completion.

Range: the model's, any number, or 0 to 1 with `scale: sigmoid`; None for tasks that are not asked for and for texts
longer than the model reads. Columns: `task` where `tasks` is given. For: what no rule can check, such as helpfulness,
beside rules for the rest (DeepSeek-R1, arXiv:2501.12948, §2.3.4, which judges helpfulness by the final summary alone).
The model is the stage's input `reward_model`: a sequence-classification checkpoint with one label and a chat template,
in bytes beside the policy on every GPU. Gamed by what reward models like: length, lists, flattery, confident wrong
answers; DeepSeek-R1 trained with it for the last 400 steps only, for that reason. Watch accuracy beside it.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks.core.errors import UserError
from tasks.core.files import read_json
from tasks.core.rewards.text import text_of

if TYPE_CHECKING:
    from tasks.core.ranking import RewardModel


def make(
    *,
    tasks: list[str] | None = None,
    part: Literal["all", "answer"] = "all",
    scale: Literal["raw", "sigmoid"] = "raw",
    batch_size: int = 8,
    reward_model: Path | None = None,
) -> Any:
    """Reward: the model's score of prompt and completion in its own chat template, never cut.

    `tasks`: score rows of these tasks only, all when left out. `part: answer` shows the model only what follows the
    last `</think>`; a completion without one has given no answer, so an empty one is scored. `scale: sigmoid` squashes
    the score. The recipe does not give `reward_model`: it is the stage's input; the model is loaded at the first call.
    """
    loaded: list[RewardModel] = []

    def preference(
        prompts: list[Any], completions: list[Any], task: list[str] | None = None, **columns: Any
    ) -> list[float | None]:
        if not loaded:
            loaded.append(_load(reward_model, batch_size))
        rows = [i for i in range(len(completions)) if tasks is None or (task is not None and task[i] in tasks)]
        texts = [_shown(text_of(completions[i]), part) for i in rows]
        scores = loaded[0].score([_as_chat(prompts[i]) for i in rows], texts, lambda: None)
        rewards: list[float | None] = [None] * len(completions)
        for i, score in zip(rows, scores, strict=True):
            rewards[i] = _sigmoid(score) if scale == "sigmoid" and score is not None else score
        return rewards

    return preference


def check_reward_model(rewards: Mapping[str, Any], reward_model: Path | None) -> None:
    """Refuse the reward without the input, the input without the reward, and a model that cannot score.

    `rewards` as in the recipe; `reward_model` is the input's directory, its checkpoint in `model/`. Raises UserError.
    """
    if "preference" in rewards and reward_model is None:
        raise UserError(
            "rewards.preference asks a reward model, and the stage has no input reward_model: add "
            "`inputs: {reward_model: <a fetch_model stage>}`, or take preference out of rewards."
        )
    if "preference" not in rewards and reward_model is not None:
        raise UserError(
            "the stage has the input reward_model, which only rewards.preference uses: add `preference: <weight>` to "
            "rewards, or take the input away."
        )
    if reward_model is not None:
        config = reward_model / "model" / "config.json"
        kinds = (read_json(config).get("architectures") if config.is_file() else None) or ["no checkpoint"]
        if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
            raise UserError(
                f"reward_model {reward_model / 'model'} is {', '.join(kinds)}: rewards.preference needs a "
                "...ForSequenceClassification checkpoint with one label, such as Skywork-Reward-V2."
            )


def _load(reward_model: Path | None, batch_size: int) -> "RewardModel":
    from tasks.core.ranking import RewardModel

    if reward_model is None:
        raise UserError("rewards.preference was called without a reward model: give the stage the input reward_model.")
    with _outside_zero3():
        return RewardModel(reward_model / "model", batch_size)


@contextmanager
def _outside_zero3() -> Iterator[None]:
    """Load whole weights: while the policy trains under ZeRO-3, transformers would split any model over the ranks."""
    from transformers.integrations import deepspeed

    if not deepspeed.is_deepspeed_zero3_enabled():
        yield
        return
    config = deepspeed._hf_deepspeed_config_weak_ref()
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed.set_hf_deepspeed_config(config)


def _shown(completion: str, part: str) -> str:
    return (
        completion
        if part == "all"
        else completion.rpartition("</think>")[2].strip()
        if "</think>" in completion
        else ""
    )


def _as_chat(prompt: Any) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _sigmoid(score: float) -> float:
    """1 / (1 + e^-score), which a score of -1000 must not overflow."""
    return 0.5 * (1.0 + math.tanh(0.5 * score))
