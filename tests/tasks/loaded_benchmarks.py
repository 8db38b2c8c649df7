"""`python -m tests.tasks.loaded_benchmarks CASES OUT`: what lighteval's benchmarks give in a fresh process.

CASES is a JSON list of {"name", "revision"} to load, or {"evaluate": config, "model": directory, "out": directory}. The
clients of the hub read HF_ENDPOINT when they are imported.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tasks.core.errors import TransientError, UserError


def main() -> None:
    """Write the outcome of each case."""
    cases, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.write_text(json.dumps([outcome(case) for case in json.loads(cases.read_text())]))


def outcome(case: dict[str, Any]) -> dict[str, Any]:
    """{"problems"}, {"metrics"} or {"error", "message"}."""
    from tasks.core.harness.benchmarks import load_benchmark
    from tasks.evaluate import Evaluate, evaluate

    try:
        if "evaluate" not in case:
            return {"problems": load_benchmark(case["name"], case["revision"], num_workers=1).problems()}
        directory = Path(case["out"])
        directory.mkdir()
        evaluate(Evaluate(**case["evaluate"]), out=directory, model=Path(case["model"]))
        return {"metrics": json.loads((directory / "metrics.json").read_text())}
    except (UserError, TransientError) as error:
        return {"error": type(error).__name__, "message": str(error)}


if __name__ == "__main__":
    main()
