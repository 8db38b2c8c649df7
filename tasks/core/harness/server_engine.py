"""A model behind an OpenAI-compatible server, through lighteval's interface for custom models.

lighteval 0.13's own way to such a server (models/endpoints/litellm_model.py, the extra `litellm`) is not taken: a
request that has used up its retries becomes an empty answer, which counts as wrong, also when the server is down; and
the `n` samples of a question are one request, so that nothing of them is kept before the last.

The client here is the teachers' (tasks/core/teachers/openai_llm.py), with its window of requests, retries, patience and
errors. Each completion is a request with a seed made of (seed, problem, sample), which a server need not honour, and is
in a journal at once: an evaluation that was killed, or whose server went down, asks only for what is missing.
"""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lighteval.models.abstract_model import LightevalModel, ModelConfig
from lighteval.models.model_input import GenerationParameters
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.requests import Doc

from tasks.core.errors import UserError
from tasks.core.evaluated_server import EvaluatedServer
from tasks.core.harness.patches import NoSampleCache
from tasks.core.harness.records import Question, Sampling
from tasks.core.harness.task import question_index
from tasks.core.parts import Parts
from tasks.core.progress import Progress
from tasks.core.stopping import Paused, stop_is_asked
from tasks.core.teachers.journal import Journal

SEED_BITS = 31  # what every endpoint accepts as a seed
SHOWN = 3
"""So many of the refused requests a message shows."""

Answer = dict[str, Any]


@dataclass
class ServedResponse(ModelResponse):
    """The server's texts, and what it says of them: no token ids come over the wire."""

    num_tokens: list[int] = field(default_factory=list)
    truncated: list[bool] = field(default_factory=list)


class ServerEngine(LightevalModel):
    """A served model, every completion of every question a request of its own."""

    def __init__(
        self, server: EvaluatedServer, questions: Sequence[Question], sampling: Sampling, out: Path, progress: Progress
    ) -> None:
        self.config = ModelConfig(
            model_name=server.model,
            generation_parameters=GenerationParameters(
                temperature=sampling.temperature, top_p=sampling.top_p, seed=sampling.seed
            ),
        )
        self.server, self.questions, self.sampling = server, questions, sampling
        self.desk, self.progress = out, progress
        self._cache = NoSampleCache()
        key = [server.identity(), asdict(sampling)]
        self._parts = Parts.plan(out / "work", key=key, size=1, num_rows=1)  # one directory, for one journal

    @property
    def tokenizer(self) -> Any:
        """None here: the server renders and counts."""
        return None

    @property
    def add_special_tokens(self) -> bool:
        """None: the server renders the chat."""
        return False

    @property
    def max_length(self) -> int:
        """Tokens of a completion; what a prompt may have is the server's business."""
        return self.sampling.max_new_tokens

    def greedy_until(self, docs: list[Doc]) -> list[ModelResponse]:
        """lighteval's name for generating, sampled or not. Raises what `_ask` does."""
        keys = {number: key for doc in docs for number, key in self._requests(question_index(doc)).items()}
        journal = Journal(self._parts, 0)
        answers = journal.read(keys)
        self.progress.update(len(answers))
        if missing := [number for number in keys if number not in answers]:
            try:
                answers |= self._ask(missing, keys, journal)
            finally:
                journal.close()
        return [self._as_response(question_index(doc), answers) for doc in docs]

    def _requests(self, index: int) -> dict[int, list[Any]]:
        """{number: [problem, sample, seed]} of a question's requests."""
        problem, num_samples = self.questions[index].problem_id, self.sampling.num_samples
        return {
            index * num_samples + sample: [problem, sample, _seed(self.sampling.seed, problem, sample)]
            for sample in range(num_samples)
        }

    def _ask(self, numbers: list[int], keys: dict[int, list[Any]], journal: Journal) -> dict[int, Answer]:
        """The answers to these requests, each kept as it comes.

        Raises UserError when the server refuses, TransientError when it is down for longer than its patience, and
        Paused when OUT/stop asks for it.
        """
        from tasks.core.teachers.openai_llm import FILTERED, OpenAITeacherLLM

        teacher = self.server.as_teacher(
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_new_tokens=self.sampling.max_new_tokens,
        )
        llm = OpenAITeacherLLM.from_config(teacher, num_workers=1, block="server")
        llm.load()
        requests = [
            {"number": number, "seed": keys[number][-1], "messages": list(self._question(number).chat)}
            for number in numbers
        ]
        answers: dict[int, Answer] = {}
        refused: dict[int, str] = {}
        with closing(llm.stream(iter(requests), self._note)) as stream:
            for request, answer in stream:
                number = request["number"]
                if answer["error"] not in (None, FILTERED):
                    refused[number] = answer["error"]
                    continue
                self._refuse_uncounted(answer)
                answers[number] = answer
                journal.append(number, keys[number], answer)
                self.progress.advance()
        if refused:
            raise self._refusal(refused)
        return answers

    def _question(self, number: int) -> Question:
        return self.questions[number // self.sampling.num_samples]

    def _note(self, text: str) -> None:
        """What the client says of the server, twice a second."""
        if text:
            self.progress.advance(0, text)
        if stop_is_asked(self.desk):
            done, total = self.progress.done, self.progress.total
            raise Paused(f"{done} of {total} completions were there when asked to stop; the next start asks the rest")

    def _refuse_uncounted(self, answer: Answer) -> None:
        if answer["num_prompt_tokens"] is None and answer["error"] is None:
            raise UserError(
                f"The server endpoint {self.server.base_url} does not say how many tokens it wrote (its answers lack "
                "`usage`), so lengths cannot be measured: serve the model with one that does, as vLLM, SGLang and "
                "llama.cpp do."
            )

    def _refusal(self, refused: dict[int, str]) -> UserError:
        shown = [
            f"problem {self._question(number).problem_id!r}, sample {number % self.sampling.num_samples}: {why}"
            for number, why in sorted(refused.items())[:SHOWN]
        ]
        return UserError(
            f"The server endpoint {self.server.base_url} refused {len(refused)} of {self.progress.total} requests, and "
            f"an evaluation without them is another benchmark: {'; '.join(shown)}. All others are kept: mend that "
            "(a smaller max_new_tokens, a larger context of the server, a larger server.timeout_s) and run again."
        )

    def _as_response(self, index: int, answers: dict[int, Answer]) -> ServedResponse:
        own = [answers[number] for number in self._requests(index)]
        return ServedResponse(
            input=self.questions[index].prompt,
            text=[answer["completion"] for answer in own],
            num_tokens=[answer["num_tokens"] for answer in own],
            truncated=[answer["finish_reason"] == "length" for answer in own],
        )

    def loglikelihood(self, docs: list[Doc]) -> list[ModelResponse]:
        """lighteval wants the method; a benchmark that generates never calls it."""
        raise AssertionError("no benchmark of ours compares likelihoods")

    def loglikelihood_rolling(self, docs: list[Doc]) -> list[ModelResponse]:
        """lighteval wants the method; a benchmark that generates never calls it."""
        raise AssertionError("no benchmark of ours compares likelihoods")


def _seed(seed: int, problem_id: str, sample: int) -> int:
    digest = hashlib.sha256(f"{seed}/{problem_id}/{sample}".encode()).digest()
    return int.from_bytes(digest[:8]) >> (64 - SEED_BITS)
