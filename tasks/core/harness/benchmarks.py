r"""lighteval's own benchmarks: question, prompt and gold from its task configs, rows from the hub at a pinned commit.

Only the module of the one task is imported: lighteval's registry would load every task that it has. The prompt is one
user message with the task's own words, few-shot examples none. Ours differs from lighteval's own evaluation in this:

- The verdict is the project's verifier's, which reads what follows the last </think>; where the prompt asks for a line
  "ANSWER: ..." that line is the answer (answer_line.py), else a box. lighteval looks for anything that could be meant,
  in the whole text when <think> stands in the prompt. Its own metric over the same completions is `lighteval_metric`.
- gsm8k is asked with the template of the task's inspect-ai solver, which says where the answer goes; the other one is
  bare ("Question: ... Answer:"), stops at the next "Question:", and lets the last number count.
- gpqa_diamond: lighteval draws the place of the right choice from the global random state, so that it moves with
  whatever was drawn before; here a hash of the question draws it. lighteval also glues the instruction to the question;
  here the blank line of its template stands.
- math_500: lighteval's gold is the whole worked solution, out of which the metric picks an answer; ours is the column
  `answer`.
- lcb: lighteval's own judge of programs is the verdict (code_judge.py), over the task `lcb:codegeneration` (releases v4
  to v5); there is no other metric beside it.
"""

import hashlib
import importlib
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from statistics import fmean
from types import ModuleType
from typing import Any, Literal, NamedTuple

from lighteval.models.model_output import ModelResponse
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc

from tasks.core.answer_line import tag_asked_line
from tasks.core.errors import UserError
from tasks.core.harness.records import Completion, Question
from tasks.core.hub import hub_errors
from tasks.core.verdict import Judgement
from tasks.core.verifier import Verifier

Row = dict[str, Any]
REASONING_TAGS = [("<think>", "</think>")]
"""What lighteval takes out of a text before its metrics, unless it is told otherwise."""
MAX_SAID_CHARS = 300


class _Entry(NamedTuple):
    """Where lighteval keeps a benchmark, what its answers are, and the column that tells its questions apart."""

    module: str
    task: str
    answers: Literal["boxed", "line", "choice", "program"]
    column: str


_ENTRIES = {
    "math_500": _Entry("math_500", "math_500", "line", "problem"),
    "aime24": _Entry("aime", "aime24", "boxed", "problem"),
    "aime25": _Entry("aime", "aime25", "boxed", "problem"),
    "gpqa_diamond": _Entry("gpqa", "gpqa:diamond", "choice", "Question"),
    "gsm8k": _Entry("gsm8k", "gsm8k", "line", "question"),
    "lcb": _Entry("lcb.main", "lcb:codegeneration", "program", "question_content"),
}


def load_benchmark(name: str, revision: str, *, num_workers: int) -> "Benchmark":
    """The benchmark with the rows of commit `revision`, from the hub or the mirror that HF_ENDPOINT names.

    Raises UserError when the data set or the commit is not to be had, TransientError when the hub does not answer.
    """
    entry = _ENTRIES[name]
    module = importlib.import_module(f"lighteval.tasks.tasks.{entry.module}")
    config = next(task for task in module.TASKS_TABLE if task.name == entry.task)
    return Benchmark(name, entry, module, config, _fetch_rows(name, config, revision), num_workers)


class Benchmark:
    """One of lighteval's benchmarks: its questions, their verdicts, and what lighteval's own metric says."""

    def __init__(
        self,
        name: str,
        entry: _Entry,
        module: ModuleType,
        config: LightevalTaskConfig,
        rows: Sequence[Row],
        num_workers: int,
    ) -> None:
        self.name, self.entry, self.module, self.config, self.num_workers = name, entry, module, config, num_workers
        self.rows = dict(zip(_problem_ids(name, [str(row[entry.column]) for row in rows]), rows, strict=True))

    def problems(self) -> list[Row]:
        """The rows that a prepare_data stage would give, in the data set's order."""
        task = "code" if self.entry.answers == "program" else "math"
        return [
            {
                "problem_id": problem_id,
                "task": task,
                "prompt": [{"role": "user", "content": self._prompt(problem_id)}],
                "answer": self._gold(problem_id),
            }
            for problem_id in self.rows
        ]

    def judge(self, questions: Sequence[Question], texts: Sequence[str], truncated: Sequence[bool]) -> list[Judgement]:
        """A judgement for each text."""
        if self.entry.answers == "program":
            from tasks.core.harness.code_judge import judge_programs

            return judge_programs([q.problem_id for q in questions], texts, truncated, self._tests, self.num_workers)
        read = [text if cut else self._read(text) for text, cut in zip(texts, truncated, strict=True)]
        with Verifier(num_workers=self.num_workers) as verifier:
            return verifier.judge([q.task for q in questions], [q.gold for q in questions], read, truncated=truncated)

    def measure(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """`lighteval_metric` for metrics.json: lighteval's first metric of the task, by its name, over all samples.

        Each completion is scored by itself and the mean over samples and questions taken, which is what pass@1 of n is.
        `num_failed` completions on which the metric raised are left out; value is null when that is all of them.
        """
        if self.entry.answers == "program":
            return {}
        metric = deepcopy(self.config.metrics[0])
        scores: dict[str, list[float]] = {}
        num_failed = 0
        for completion in completions:
            problem_id = completion.question.problem_id
            try:
                score = _score(metric, self.doc(problem_id), completion.text)
            except Exception as error:  # model output: SymPy may raise anything on it
                num_failed += 1
                print(f"lighteval's metric failed on {problem_id}, sample {completion.sample}: {error!r}", flush=True)
            else:
                scores.setdefault(problem_id, []).append(score)
        value = fmean(map(fmean, scores.values())) if scores else None
        name = metric.metric_name.partition(":")[0]
        return {"lighteval_metric": {"name": name, "value": value, "num_failed": num_failed}}

    def doc(self, problem_id: str) -> Doc:
        """lighteval's Doc of a question; whatever its prompt function draws at random, it draws from the question."""
        state = random.getstate()
        random.seed(problem_id)
        try:
            return self.config.prompt_function(dict(self.rows[problem_id]), self.config.name)
        finally:
            random.setstate(state)

    def _prompt(self, problem_id: str) -> str:
        row = self.rows[problem_id]
        if self.entry.answers == "program":
            return str(self.module.prepare_prompt(row))  # its prompt function would unpack all tests as well
        if self.name == "gsm8k":
            return str(self.module.MATH_PROMPT_TEMPLATE.format(prompt=row["question"]))
        return self.doc(problem_id).query.strip()

    def _gold(self, problem_id: str) -> str:
        if self.entry.answers == "program":
            return ""
        if self.entry.answers == "choice":
            return str(self.doc(problem_id).get_golds()[0])
        assert self.config.sample_fields is not None
        return str(self.config.sample_fields(self.rows[problem_id]).target)

    def _read(self, text: str) -> str:
        is_boxed = self.entry.answers == "boxed"
        return text if is_boxed else tag_asked_line(text, is_choice=self.entry.answers == "choice")

    def _tests(self, problem_id: str) -> Row:
        tests = self.doc(problem_id).specific
        assert tests is not None
        return tests


def _score(metric: Any, doc: Doc, text: str) -> float:
    """lighteval's score of one text, as its pipeline would compute it from one sample."""
    from lighteval.utils.utils import remove_reasoning_tags

    response = ModelResponse(text=[text], text_post_processed=[remove_reasoning_tags(text, REASONING_TAGS)])
    metric.sample_level_fn.n = 1
    return float(metric.sample_level_fn.compute(doc=doc, model_response=response))


def _problem_ids(name: str, questions: Sequence[str]) -> list[str]:
    """`name-<hash of the question>`, with a number behind it where a question stands there again."""
    seen: Counter[str] = Counter()
    ids = []
    for question in questions:
        digest = hashlib.sha256(question.encode()).hexdigest()[:16]
        seen[digest] += 1
        ids.append(f"{name}-{digest}" + (f"-{seen[digest]}" if seen[digest] > 1 else ""))
    return ids


def _fetch_rows(name: str, config: LightevalTaskConfig, revision: str) -> list[Row]:
    """The rows of the task's split. All but lcb's come through the hub's cache: once fetched they are there offline."""
    from datasets import load_dataset
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    what, repo = f"benchmark {name!r}: the data set {config.hf_repo!r} at data_revision {revision!r}", config.hf_repo
    instead = "a prepare_data stage with `kind: local`"
    # A cache of its own: `datasets` falls back to whatever revision it has prepared before.
    with hub_errors(what, instead), tempfile.TemporaryDirectory() as empty:
        more: dict[str, Any] = {"split": "+".join(config.evaluation_splits), "cache_dir": empty}
        if _ENTRIES[name].answers == "program":  # gigabytes of other releases lie beside it
            more |= {"revision": revision}
        else:
            repo = snapshot_download(repo, repo_type="dataset", revision=revision)
        try:
            rows = [dict(row) for row in load_dataset(repo, config.hf_subset, **more)]
        except LocalEntryNotFoundError:
            raise  # the network, not the data set
        except (ValueError, FileNotFoundError, RuntimeError) as error:
            said = " ".join(str(error).split())[:MAX_SAID_CHARS]
            raise UserError(f"{what} cannot be read as lighteval's task {config.name!r} wants it: {said}") from error
    missing = {_ENTRIES[name].column} - set(rows[0] if rows else ())
    if missing:
        raise UserError(f"{what} has no rows with the column {missing.pop()!r}: is it the commit of another data set?")
    return rows
