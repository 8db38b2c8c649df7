"""How long the command line takes to answer: `python tests/bench/bench_cli.py`. Budgets are DESIGN's.

The reference for a cached run is what Prefect itself needs for a flow with one empty task on the same server.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

R1 = (sys.executable, "-c", "from flows.cli import main; main()")
PREFECT_FLOW = """
from prefect import flow, task
@task
def nothing(): pass
@flow
def empty(): nothing()
empty()
"""
RECIPE = """
name: bench
description: Nine small stages
seed: 0
stages:
"""
STAGE = """
  problems{number}:
    stage: prepare_data
    source: {{kind: countdown, num_numbers: [3], max_number: 10, max_target: 99, operators: "+-*", prompt: tokens}}
    num_train: {number}
    num_eval: 1
"""


def main() -> None:
    """Print the medians of three runs each."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ |= {"PREFECT_HOME": f"{directory}/prefect", "R1_STORE": f"{directory}/store", "OMP_NUM_THREADS": "1"}
        os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
        recipe = Path(directory, "bench.yaml")
        recipe.write_text(RECIPE + "".join(STAGE.format(number=number) for number in range(1, 10)))
        python = _seconds(sys.executable, "-c", "pass")
        _print("python -c pass", python, "")
        _print("prefect --help", _seconds(sys.executable, "-m", "prefect", "--help"), "the reference")
        _print("r1 --help", _seconds(*R1, "--help"), "budget 0.5 s")
        _print("r1 plan quickstart", _seconds(*R1, "plan", "quickstart"), "budget 1.5 s")
        _seconds(*R1, "run", str(recipe), times=1)
        empty = _seconds(sys.executable, "-c", PREFECT_FLOW)
        cached = _seconds(*R1, "run", str(recipe))
        _print("an empty Prefect flow, own server", empty, "the reference")
        _print("r1 run, nine stages cached, own server", cached, "budget 15 s")
        print(json.dumps({"cached_run_over_empty_flow": round(cached / empty, 2)}))


def _seconds(*command: str, times: int = 3) -> float:
    """Median wall time."""
    walls = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        walls.append(time.perf_counter() - started)
    return statistics.median(walls)


def _print(what: str, seconds: float, note: str) -> None:
    print(f"{what:40} {seconds:6.2f} s   {note}")


if __name__ == "__main__":
    main()
