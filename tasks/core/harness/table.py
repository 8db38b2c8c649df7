"""completions.parquet of an evaluation: one row a completion, grouped by question."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.core.harness.records import Completion


def write_completions(path: Path, completions: Sequence[Completion]) -> None:
    """Write problem_id, sample, prompt, completion, verdict, tier, reason, answer (the gold), num_tokens, truncated.

    Under a forced budget also num_thinking_tokens, num_waits, was_forced_to_end.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([_row(completion) for completion in completions]), path)


def _row(completion: Completion) -> dict[str, Any]:
    row = {
        "problem_id": completion.question.problem_id,
        "sample": completion.sample,
        "prompt": completion.question.prompt,
        "completion": completion.text,
        "verdict": str(completion.judgement.verdict),
        "tier": completion.judgement.tier,
        "reason": completion.judgement.reason,
        "answer": completion.question.gold,
        "num_tokens": completion.num_tokens,
        "truncated": completion.truncated,
    }
    if (thought := completion.thought) is None:
        return row
    return row | {
        "num_thinking_tokens": thought.num_tokens,
        "num_waits": thought.num_waits,
        "was_forced_to_end": thought.was_forced_to_end,
    }
