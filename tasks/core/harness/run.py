"""Run lighteval's pipeline over our questions and bring back every completion with its verdict."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tasks.core.checkpoint import Checkpoint
from tasks.core.errors import UserError
from tasks.core.evaluated_server import EvaluatedServer
from tasks.core.harness.records import Completion, Question, Sampling
from tasks.core.progress import Progress
from tasks.core.verdict import Judgement
from tasks.core.verifier import Verifier

if TYPE_CHECKING:
    from tasks.core.harness.benchmarks import Benchmark

Verify = Callable[[Sequence[Question], Sequence[str], Sequence[bool]], list[Judgement]]
"""Judges texts, given their questions and whether each was cut off."""


def run_harness(
    benchmark: str,
    questions: Sequence[Question],
    sampling: Sampling,
    checkpoint: Checkpoint | None,
    *,
    engine: str,
    server: EvaluatedServer | None = None,
    dtype: str | None = None,
    built_in: "Benchmark | None" = None,
    batch_size: int,
    num_workers: int,
    out: Path,
) -> tuple[list[Completion], float]:
    """Sample and judge; returns the completions, in the order of `questions` and of samples, and lighteval's accuracy.

    Writes lighteval's own results to out/results_lighteval.json, resumable shards to out/work, and progress.json.
    `checkpoint` is None where `server` answers; a benchmark of lighteval's own, `built_in`, judges in its own way.
    `batch_size` counts completions sampled at once, `num_workers` the verifier's processes.
    """
    from tasks.core.harness.budget import with_thoughts
    from tasks.core.harness.shards import Shards
    from tasks.core.harness.task import question_index, task_module

    completions: list[Completion] = []
    verify = built_in.judge if built_in else partial(_verify, num_workers)

    def judge(docs: list[Any], responses: list[Any]) -> list[float]:
        asked = [questions[question_index(doc)] for doc in docs]
        judged = _judge(asked, responses, checkpoint.end_ids if checkpoint else (), verify)
        completions.extend(completion for group in judged for completion in group)
        return [fmean(completion.judgement.verdict.is_right for completion in group) for group in judged]

    module = task_module(
        benchmark, judge=judge, num_samples=sampling.num_samples, max_new_tokens=sampling.max_new_tokens
    )
    with Progress(out, len(questions) * sampling.num_samples, "completions") as progress:
        shards = Shards(questions, sampling, batch_size, work=out / "work", progress=progress)

        def load_engine() -> Any:
            if server is not None:
                from tasks.core.harness.server_engine import ServerEngine

                return ServerEngine(server, questions, sampling, out, progress)
            assert checkpoint is not None
            return _load_engine(engine, checkpoint, sampling, shards, dtype)

        accuracy = _run_pipeline(module, questions, load_engine, out)
    place = {question.problem_id: index for index, question in enumerate(questions)}
    completions.sort(key=lambda completion: (place[completion.question.problem_id], completion.sample))
    if sampling.thinking:
        completions = with_thoughts(completions, place, shards.directory)
    return completions, accuracy


def _run_pipeline(
    module: ModuleType, questions: Sequence[Question], load_engine: Callable[[], Any], out: Path
) -> float:
    """lighteval's accuracy on the one task of `module`; saves its results, prints its table."""
    from lighteval.logging.evaluation_tracker import EvaluationTracker
    from lighteval.pipeline import ParallelismManager, Pipeline, PipelineParameters

    from tasks.core.harness.patches import lean_lighteval
    from tasks.core.harness.task import METRIC, SPLIT, question_rows

    logging.getLogger("lighteval.data").setLevel(logging.ERROR)  # one warning a shard about a setting nobody can make
    tracker = EvaluationTracker(output_dir=str(out), results_path_template="{output_dir}", save_details=False)
    parameters = PipelineParameters(
        launcher_type=ParallelismManager.NONE, custom_tasks_directory=module, remove_reasoning_tags=False
    )
    name = f"{module.TASKS_TABLE[0].name}|0"  # without "|0" lighteval would read a file of that name as a list of tasks
    with lean_lighteval({SPLIT: question_rows(questions)}):
        pipeline = Pipeline(tasks=name, pipeline_parameters=parameters, evaluation_tracker=tracker, model=load_engine())
        pipeline.evaluate()
    tracker.save_results("lighteval", tracker.results)
    pipeline.show_results()
    return float(tracker.metrics_logger.metric_aggregated[name][METRIC])


def _load_engine(engine: str, checkpoint: Checkpoint, sampling: Sampling, shards: Any, dtype: str | None) -> Any:
    if engine == "transformers":
        from tasks.core.harness.transformers_engine import TransformersEngine

        return TransformersEngine(checkpoint, sampling, shards, dtype)
    try:
        from tasks.core.harness.vllm_engine import VllmEngine

        return VllmEngine(checkpoint, sampling, shards, dtype)
    except ModuleNotFoundError as missing:
        if missing.name != "vllm":
            raise
        raise UserError(
            "evaluate: engine is 'vllm', but vllm is not installed: install the `gpu` extra, or set engine: "
            "transformers."
        ) from missing


def _verify(
    num_workers: int, questions: Sequence[Question], texts: Sequence[str], truncated: Sequence[bool]
) -> list[Judgement]:
    with Verifier(num_workers=num_workers) as verifier:
        return verifier.judge([q.task for q in questions], [q.gold for q in questions], texts, truncated=truncated)


def _judge(
    questions: Sequence[Question], responses: Sequence[Any], end_ids: Sequence[int], verify: Verify
) -> list[list[Completion]]:
    """Verdicts of all completions, grouped by question."""
    asked = [(q, sample, r) for q, r in zip(questions, responses, strict=True) for sample in range(len(r.text))]
    lengths, truncated = zip(*(_ending(r, sample, end_ids) for _, sample, r in asked), strict=True)
    judgements = verify([q for q, _, _ in asked], [r.text[sample] for _, sample, r in asked], truncated)
    flat = [
        Completion(q, sample, r.text[sample], length, cut, judgement)
        for (q, sample, r), length, cut, judgement in zip(asked, lengths, truncated, judgements, strict=True)
    ]
    num_samples = len(responses[0].text)
    return [flat[start : start + num_samples] for start in range(0, len(flat), num_samples)]


def _ending(response: Any, sample: int, end_ids: Sequence[int]) -> tuple[int, bool]:
    """Tokens of a completion, and whether it was cut off: from its tokens, or as the server says."""
    from tasks.core.harness.server_engine import ServedResponse

    if isinstance(response, ServedResponse):
        return response.num_tokens[sample], response.truncated[sample]
    tokens = response.output_tokens[sample]
    return len(tokens), tokens[-1] not in end_ids
