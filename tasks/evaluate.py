"""Stage `evaluate`: how often a checkpoint answers held-out problems rightly, with an interval.

In: `model` (a checkpoint in `model/`) and `problems` (`problems.parquet`, of which the split "eval" is asked).
Out: `completions.parquet` (every completion with its verdict), `metrics.json`, and lighteval's own
`results_lighteval.json`, whose accuracy is ours: lighteval runs the benchmark, the project's one verifier judges.

pass@1 is estimated by the mean over `num_samples` samples of each question, as in DeepSeek-R1 (arXiv:2501.12948,
section 3); unlike the paper we give a 95 % interval, clustered by question, because samples of one question agree.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.core.main import main
from tasks.core.stage import Input, Stage, StageConfig, operational
from tasks.core.verdict import Verdict

if TYPE_CHECKING:
    from tasks.core.checkpoint import Checkpoint
    from tasks.core.harness.records import Completion, Question

TASKS = ("countdown", "math")


class Evaluate(StageConfig):
    """What to ask and how to sample."""

    benchmark: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    """Name of the benchmark in lighteval's table and in the report: letters, digits, "-" and "_"."""
    num_questions: int | None = Field(ge=1)
    """How many questions of the eval split to ask; null asks all. A part is drawn by a hash of problem_id, so it does
    not depend on the seed or on the order of the file, and a smaller part lies within a larger one."""
    num_samples: int = Field(ge=1)
    """Completions sampled for each question."""
    temperature: float = Field(ge=0)
    """Sampling temperature; 0 is greedy decoding, which allows one sample only."""
    top_p: float = Field(gt=0, le=1)
    """Nucleus sampling: 1 keeps the whole distribution."""
    max_new_tokens: int = Field(ge=1)
    """Longest completion, in tokens; a longer one is cut and counts as truncated."""
    seed: int = Field(ge=0)
    """Seed of the sampling. The same config and `batch_size` give the same completions."""
    engine: Literal["transformers", "vllm"]
    """What generates: transformers (CPU or GPU) or vllm (the `gpu` extra)."""
    batch_size: int = operational(256)
    """Completions sampled at once; another value draws other samples from the same distribution."""
    num_workers: int = operational(1)
    """Processes of the verifier."""

    @model_validator(mode="after")
    def _one_greedy_sample(self) -> Self:
        if self.temperature == 0 and self.num_samples > 1:
            raise ValueError(
                f"num_samples is {self.num_samples} at temperature 0, where all samples are equal: "
                "set num_samples: 1, or a temperature above 0"
            )
        return self


def evaluate(config: Evaluate, *, out: Path, model: Path, problems: Path) -> None:
    """Ask the questions, judge the answers, write completions.parquet and metrics.json into `out`."""
    from tasks.core.checkpoint import read_checkpoint
    from tasks.core.harness.records import Sampling
    from tasks.core.harness.run import run_harness

    rows = read_problems(problems / "problems.parquet", config.num_questions)
    checkpoint = read_checkpoint(model / "model")
    questions = render_questions(rows, checkpoint, config.max_new_tokens)
    sampling = Sampling(config.num_samples, config.temperature, config.top_p, config.max_new_tokens, config.seed)
    completions, lighteval_accuracy = run_harness(
        config.benchmark,
        questions,
        sampling,
        checkpoint,
        engine=config.engine,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        out=out,
    )
    metrics = {"benchmark": config.benchmark, **summarise(completions, config.num_samples)}
    assert math.isclose(metrics["accuracy"], lighteval_accuracy, abs_tol=1e-9), (
        metrics["accuracy"],
        lighteval_accuracy,
    )
    write_completions(out / "completions.parquet", completions)
    write_json(out / "metrics.json", metrics)


def read_problems(path: Path, num_questions: int | None) -> list[dict[str, Any]]:
    """The eval split, or a part of it. Raises UserError when it is empty, too small or not of one known task."""
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError(f"evaluate: {path} does not exist: give as `problems` a prepare_data stage.")
    rows = [row for row in pq.read_table(path).to_pylist() if row["split"] == "eval"]
    if not rows:
        raise UserError(f'evaluate: {path} has no problem in split "eval": raise num_eval in the prepare_data stage.')
    tasks = sorted({row["task"] for row in rows})
    if len(tasks) > 1 or tasks[0] not in TASKS:
        raise UserError(
            f"evaluate: the eval split of {path} holds problems of task {', '.join(map(repr, tasks))}; one evaluation "
            f"asks one task, which is {' or '.join(map(repr, TASKS))}: prepare one data set for each task."
        )
    if num_questions is None:
        return rows
    if num_questions > len(rows):
        raise UserError(
            f"evaluate: num_questions is {num_questions}, but the eval split of {path} has {len(rows)} problems: "
            "lower num_questions, set it to null to ask all, or prepare more."
        )
    return sorted(rows, key=lambda row: hashlib.sha256(row["problem_id"].encode()).digest())[:num_questions]


def render_questions(rows: Sequence[dict[str, Any]], checkpoint: "Checkpoint", max_new_tokens: int) -> "list[Question]":
    """Show the prompts as GRPO shows them. Raises UserError when one leaves no room for max_new_tokens."""
    from tasks.core.harness.records import Question

    rendered = checkpoint.render([row["prompt"] for row in rows])
    questions = [
        Question(row["problem_id"], row["task"], row["answer"], prompt, prompt_ids)
        for row, (prompt, prompt_ids) in zip(rows, rendered, strict=True)
    ]
    longest = max(questions, key=lambda question: len(question.prompt_ids))
    needed = len(longest.prompt_ids) + max_new_tokens
    if checkpoint.max_length is not None and needed > checkpoint.max_length:
        raise UserError(
            f"evaluate: problem {longest.problem_id!r} has a prompt of {len(longest.prompt_ids)} tokens; with "
            f"max_new_tokens {max_new_tokens} that makes {needed}, over the model's context of "
            f"{checkpoint.max_length}: set max_new_tokens to at most {checkpoint.max_length - len(longest.prompt_ids)}."
        )
    return questions


def summarise(completions: "Sequence[Completion]", num_samples: int) -> dict[str, Any]:
    """metrics.json of completions that lie grouped by question, `num_samples` each.

    Rates are shares of all completions; a truncated completion without an answer counts in both rates.
    `pass_at_num_samples` is the share of questions with a right completion, `mean_tokens` counts the end token.
    """
    from tasks.core.statistics import clustered_mean, pass_at_k

    verdicts = [completion.judgement.verdict for completion in completions]
    right_QS = [
        [float(verdict.is_right) for verdict in verdicts[start : start + num_samples]]
        for start in range(0, len(verdicts), num_samples)
    ]
    estimate = clustered_mean(right_QS)
    any_right = [pass_at_k(num_samples, round(sum(right_S)), num_samples) for right_S in right_QS]
    return {
        "accuracy": estimate.mean,
        "accuracy_low": estimate.low,
        "accuracy_high": estimate.high,
        "standard_error": estimate.standard_error,
        "num_questions": len(right_QS),
        "num_samples": num_samples,
        "pass_at_num_samples": _mean(any_right),
        "truncation_rate": _mean([completion.truncated for completion in completions]),
        "no_answer_rate": _mean([completion.judgement.answer is None for completion in completions]),
        "mean_tokens": _mean([completion.num_tokens for completion in completions]),
        "verdicts": {str(verdict): count for verdict in Verdict if (count := verdicts.count(verdict))},
    }


def write_completions(path: Path, completions: "Sequence[Completion]") -> None:
    """One row a completion, grouped by question."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
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
        for completion in completions
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


STAGE = Stage(
    name="evaluate",
    version=1,
    config=Evaluate,
    run=evaluate,
    inputs={
        "model": Input(accepts=("fetch_model", "train_sft", "train_grpo", "train_ppo")),
        "problems": Input(accepts=("prepare_data", "select_problems")),
    },
    libraries=("lighteval", "math-verify", "transformers"),
    memory_advice="lower batch_size or max_new_tokens",
)

if __name__ == "__main__":
    main(STAGE)
