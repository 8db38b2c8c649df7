"""Our benchmark as a lighteval custom task: one row a question, one metric, the verdicts of our verifier."""

import json
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from lighteval.metrics.metrics_sample import SampleLevelComputation, SamplingMetric
from lighteval.metrics.utils.metric_utils import SampleLevelMetric
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc, SamplingMethod

from tasks.core.harness.records import Question

SPLIT = "eval"
METRIC = "accuracy"
Judge = Callable[[list[Doc], list[ModelResponse]], list[float]]


class VerdictMetric(SamplingMetric, SampleLevelComputation):
    """The share of right completions of each question, all questions judged in one call.

    `judge` must be a plain function: the registry deep-copies the metric, and only functions survive that unchanged.
    """

    def __init__(self, judge: Judge, num_samples: int) -> None:
        super().__init__()
        self.judge, self.n = judge, num_samples

    def compute(self, docs: list[Doc], responses: list[ModelResponse], **kwargs: Any) -> list[float]:
        """Mean of is-right over the samples of each question, in the order of `docs`."""
        return self.judge(docs, responses)

    def num_samples(self) -> int:
        """How many completions lighteval asks of the model for each question."""
        return self.n


def task_module(name: str, *, judge: Judge, num_samples: int, max_new_tokens: int) -> ModuleType:
    """A lighteval custom-task module that holds the benchmark `name`."""
    metric = SampleLevelMetric(
        metric_name=METRIC,
        higher_is_better=True,
        category=SamplingMethod.GENERATIVE,
        sample_level_fn=VerdictMetric(judge, num_samples),
        corpus_level_fn=np.mean,
        batched_compute=True,
    )
    module = ModuleType(f"r1flow_{name}")
    module.TASKS_TABLE = [  # type: ignore[attr-defined]
        LightevalTaskConfig(
            name=name,
            prompt_function=_as_doc,
            hf_repo="",
            hf_subset="",
            metrics=[metric],
            hf_avail_splits=[SPLIT],
            evaluation_splits=[SPLIT],
            few_shots_split=SPLIT,  # none are taken; without it lighteval warns
            generation_size=max_new_tokens,
            stop_sequence=[],
        )
    ]
    return module


def question_rows(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """The rows that stand for the data set; `index` is the question's place in `questions`."""
    return [
        {"index": index, "prompt": question.prompt, "task": question.task, "gold": question.gold}
        for index, question in enumerate(questions)
    ]


def question_index(doc: Doc) -> int:
    """The place in `questions` that `doc` was made from."""
    return int(json.loads(doc.get_golds()[0])["index"])


def _as_doc(row: dict[str, Any], task_name: str) -> Doc:
    """The gold carries all that a metric needs, as JSON: some lighteval metrics rebuild the Doc and drop the rest."""
    gold = json.dumps({key: row[key] for key in ("index", "task", "gold")}, ensure_ascii=False)
    return Doc(task_name=task_name, query=row["prompt"], choices=[gold], gold_index=0)
