"""What the problems hold, against the rewards that are to score them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.preflight.finding import Finding
from tasks.core.preflight.training import Training

TASK_OF = {"countdown": ("countdown",), "code": ("code",)}
"""Reward → the tasks whose rows it scores; of all others it says nothing (None)."""
NEEDS_GOLD = ("accuracy", "cosine", "length", "countdown")
"""Rewards that compare with the column `answer`."""


@dataclass(frozen=True)
class Problems:
    """The train split: rows per task, how many have no gold, the prompts as chat messages."""

    tasks: Counter[str]
    num_without_gold: int
    prompts: tuple[list[dict[str, Any]], ...]

    @property
    def texts(self) -> list[str]:
        """Each prompt's messages, joined."""
        return ["\n".join(message["content"] for message in prompt) for prompt in self.prompts]


def read_problems(path: Path) -> Problems | None:
    """The train split of a problems.parquet, None where there is no such file."""
    import pyarrow.parquet as pq

    if not path.is_file():
        return None
    table = pq.read_table(path, columns=["split", "task", "prompt", "answer"], filters=[("split", "=", "train")])
    golds = table["answer"].to_pylist()
    return Problems(
        tasks=Counter(table["task"].to_pylist()),
        num_without_gold=sum(not gold for gold in golds),
        prompts=tuple(table["prompt"].to_pylist()),
    )


def check_rewards(training: Training, problems: Problems) -> Iterator[Finding]:
    """Refuse rewards none of which can score a row; warn of a part that cannot."""
    total = problems.tasks.total()
    there = ", ".join(f"{task} ({count})" for task, count in problems.tasks.most_common())
    scored = {name: sum(problems.tasks[task] for task in TASK_OF[name]) for name in training.rewards if name in TASK_OF}
    for name, count in scored.items():
        if count == 0:
            is_only = len(training.rewards) == 1
            yield Finding(
                "refuse" if is_only else "warn",
                f"rewards.{name} scores problems of task {' or '.join(TASK_OF[name])} only, and the data has {there}: "
                "take the reward accuracy, which knows every task, or other problems.",
            )
        elif count < total and len(training.rewards) == 1:
            yield Finding(
                "warn",
                f"rewards.{name} scores {count} of {total} problems and is the only reward: the others teach nothing.",
            )
    if problems.num_without_gold and (named := [name for name in training.rewards if name in NEEDS_GOLD]):
        yield Finding(
            "refuse" if problems.num_without_gold == total else "warn",
            f"rewards.{named[0]} compares with a gold answer, which {problems.num_without_gold} of {total} problems "
            "do not have: set answer_column (or answer) in prepare_data.",
        )
