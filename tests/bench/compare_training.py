"""Time one of our training stages against a plain TRL script, in turns, in one process."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.core.training import peak_memory_gb
from tasks.fetch_model import FetchModelConfig, fetch_model
from tasks.prepare_data import PrepareDataConfig, prepare_data
from tests.tasks.training_inputs import folder, make_traces, parsed

# The model and the problems of recipes/quickstart.yaml.
SHAPE = {
    "architecture": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_layers": 3,
    "num_heads": 4,
    "max_positions": 256,
    "max_integer": 100,
}
COUNTDOWN = {
    "kind": "countdown",
    "num_numbers": [3],
    "max_number": 10,
    "max_target": 99,
    "operators": "+-*",
    "prompt": "tokens",
}
REPEATS = 5

Run = Callable[[Path, dict[str, Path]], float]  # (out, inputs) -> seconds in trainer.train()


def make_inputs(root: Path) -> dict[str, Path]:
    """The artifacts base, problems and traces."""
    inputs = {name: folder(root / name) for name in ("base", "problems")}
    fetch_model(parsed(FetchModelConfig, source="scratch", scratch=SHAPE, seed=0), out=inputs["base"])
    config = parsed(PrepareDataConfig, source=COUNTDOWN, num_train=1900, num_eval=10, seed=0)
    prepare_data(config, out=inputs["problems"])
    return inputs | {"traces": make_traces(root / "traces", inputs["problems"])}


def compare(ours: Run, plain: Run, num_steps: int) -> None:
    """Run both in turns, the first of each as a warm-up, and print seconds and ratios."""
    import transformers

    transformers.logging.set_verbosity_error()
    times: dict[str, list[tuple[float, float, float]]] = {"ours": [], "plain": []}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        inputs = make_inputs(root)
        for repeat in range(REPEATS + 1):
            for label, run in (("plain", plain), ("ours", ours))[:: 1 if repeat % 2 else -1]:
                started, cpu = time.monotonic(), time.process_time()
                in_train = run(folder(root / f"{label}-{repeat}"), inputs)
                if repeat:
                    times[label].append((in_train, time.monotonic() - started, time.process_time() - cpu))
    print(f"{REPEATS} repeats of {num_steps} steps, in turns; peak memory of the process {peak_memory_gb():.2f} GiB")
    whole = "the whole run, from loading to the saved model"
    for column, what in enumerate(("trainer.train()", whole, f"CPU time of {whole}")):
        columns = {label: [each[column] for each in rows] for label, rows in times.items()}
        print(what)
        for label, seconds in columns.items():
            per_step = [second / num_steps * 1000 for second in seconds]
            print(f"  {label:5} {min(per_step):7.1f} ms a step at best, median {statistics.median(per_step):7.1f}")
        best = min(columns["ours"]) / min(columns["plain"])
        ratios: list[Any] = [a / b for a, b in zip(columns["ours"], columns["plain"], strict=True)]
        print(f"  ratio {best:.3f} of the best, {statistics.median(ratios):.3f} median of the pairs")
