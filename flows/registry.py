"""Which stages there are. A stage's module is imported only when a recipe uses it."""

import importlib

from tasks.core.stage import Stage

STAGES = (
    "fetch_model",
    "prepare_data",
    "select_problems",
    "generate_traces",
    "verify_traces",
    "select_traces",
    "prepare_traces",
    "mix_traces",
    "train_sft",
    "train_grpo",
    "train_ppo",
    "evaluate",
    "report",
)


def load_stage(name: str) -> Stage:
    """Import `tasks.<name>`, one of STAGES, and return its STAGE."""
    stage: Stage = importlib.import_module(f"tasks.{name}").STAGE
    assert stage.name == name, f"tasks/{name}.py holds a stage called {stage.name}"
    return stage
