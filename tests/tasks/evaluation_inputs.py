"""A model, problems and a config for the tests of stage evaluate."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from bigram_model import save_bigram_model

from tasks.evaluate import Evaluate

# After <assistant> the model answers 3 + 5 or 3 - 5, or says "no" for ever.
WORDS = ["<answer>", "</answer>", "3", "5", "+", "-", "no", "make", "of", "8", "15"]
FOLLOWS = {
    "<assistant>": {"<answer>": 0.75, "no": 0.25},
    "no": {"no": 1.0},
    "<answer>": {"3": 1.0},
    "3": {"+": 0.5, "-": 0.5},
    "+": {"5": 1.0},
    "-": {"5": 1.0},
    "5": {"</answer>": 1.0},
}
MAX_NEW_TOKENS = 10
NUM_QUESTIONS, NUM_SAMPLES = 11, 4


def problem(place: int, *, target: int = 8, split: str = "eval", task: str = "countdown") -> dict:
    """Make 8 of 3 and 5, which the model may find, or 15, which it cannot."""
    content = f"make {target} of 3 5" if place % 2 else f"of 3 5 make {target}"
    gold = json.dumps({"numbers": [3, 5], "target": target})
    prompt = [{"role": "user", "content": content}]
    return {"problem_id": f"p{place}", "split": split, "task": task, "prompt": prompt, "answer": gold}


def write_problems(directory: Path, rows: list[dict]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), directory / "problems.parquet")
    return directory


def config(**changes) -> Evaluate:
    fields = {"benchmark": "countdown", "num_questions": None, "num_samples": NUM_SAMPLES, "temperature": 1.0}
    fields |= {"top_p": 1.0, "max_new_tokens": MAX_NEW_TOKENS, "seed": 3, "engine": "transformers", "batch_size": 16}
    return Evaluate(**(fields | changes))


def write_inputs(root: Path) -> dict[str, Path]:
    """The model and eleven problems of the eval split, the fifth beyond the model, and one of the train split."""
    save_bigram_model(root / "model" / "model", WORDS, FOLLOWS)
    rows = [problem(place, target=15 if place == 4 else 8) for place in range(NUM_QUESTIONS)]
    rows.append(problem(99, split="train"))
    return {"model": root / "model", "problems": write_problems(root / "problems", rows)}
