"""Verifier: verdicts a second against serial Math-Verify, in one process, on the same answers.

    python -m tests.bench.bench_verifier

GSM8K's golds (../shared/data, else generated integers) with an answer each, four in five right; and MATH-500's golds,
answered by themselves in another spelling, which mostly need Math-Verify (tier 1). Both must give the same verdicts.
"""

import json
import logging
import random
import time
from collections import Counter
from pathlib import Path

from tasks.core.verifier import Verifier

DATA = Path(__file__).parents[3] / "shared" / "data"
NUM_WORKERS = 2


def serial_math_verify(golds: list[str], completions: list[str]) -> list[bool]:
    """What a plain script does: parse both and compare, one after another, with Math-Verify's own time limits."""
    from math_verify import parse, verify

    return [
        verify(parse(rf"\boxed{{{gold}}}"), parse(completion))
        for gold, completion in zip(golds, completions, strict=True)
    ]


def gsm8k() -> tuple[list[str], list[str]]:
    """(golds, completions) of the GSM8K test set."""
    rng = random.Random(0)
    golds = [str(rng.randint(1, 5_000)) for _ in range(1_319)]
    if (DATA / "gsm8k_test.jsonl").is_file():
        lines = (DATA / "gsm8k_test.jsonl").read_text().splitlines()
        golds = [json.loads(line)["answer"].split("####")[1].strip() for line in lines]
    answers = [gold if rng.random() < 0.8 else str(rng.randint(1, 5_000)) for gold in golds]
    return golds, [rf"So the answer is \boxed{{{answer}}}." for answer in answers]


def math500() -> tuple[list[str], list[str]]:
    """(golds, completions) of MATH-500, or nothing when the data is not there."""
    if not (DATA / "math500.json").is_file():
        return [], []
    golds = [row["final_answer"] for row in json.loads((DATA / "math500.json").read_text())]
    answers = [gold.replace(r"\frac", r"\dfrac") for gold in golds]
    return golds, [rf"So it is \boxed{{{answer}}}." for answer in answers]


def main() -> None:
    """Print verdicts a second for both and the ratio, and whether they agree."""
    logging.disable(logging.CRITICAL)
    with Verifier(num_workers=NUM_WORKERS) as verifier:
        verifier.judge(["math"] * 2 * NUM_WORKERS, ["x+1"] * 2 * NUM_WORKERS, [r"\boxed{1+x}"] * 2 * NUM_WORKERS)
        serial_math_verify(["x+1"], [r"\boxed{1+x}"])  # both warm: their imports are not what is compared
        for name, (golds, completions) in {"GSM8K": gsm8k(), "MATH-500": math500()}.items():
            if not golds:
                continue
            start = time.perf_counter()
            judgements = verifier.judge(["math"] * len(golds), golds, completions)
            ours_s = time.perf_counter() - start
            start = time.perf_counter()
            theirs = serial_math_verify(golds, completions)
            serial_s = time.perf_counter() - start
            num_differ = sum(
                judgement.verdict.is_right != right for judgement, right in zip(judgements, theirs, strict=True)
            )
            tiers = dict(Counter(judgement.tier for judgement in judgements))
            print(f"{name}: {len(golds)} answers, tiers {tiers}, {num_differ} verdicts differ")
            print(f"  ours   {len(golds) / ours_s:>9,.0f} verdicts a second ({NUM_WORKERS} workers)")
            print(f"  serial {len(golds) / serial_s:>9,.0f} verdicts a second (Math-Verify)")
            print(f"  ratio  {serial_s / ours_s:>9.1f} x as fast")


if __name__ == "__main__":
    main()
