"""Generation in shards, each seeded and committed by itself, so that a killed evaluation goes on where it was."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from lighteval.models.model_output import ModelResponse
from lighteval.tasks.requests import Doc

from tasks.core.files import read_json, write_text
from tasks.core.harness.budget import Budget, Extend, write_thoughts
from tasks.core.harness.records import Question, Sampling
from tasks.core.harness.task import question_index
from tasks.core.progress import Progress
from tasks.core.stopping import Paused, stop_is_asked

Tokens_QST = list[list[list[int]]]
"""Generated tokens: Q questions, S samples each, T tokens up to and with the one that ends the text."""

Generate = Callable[[list[Doc], int], Tokens_QST]
"""Samples one shard: takes its docs and its seed."""


class Shards:
    """Cuts the questions into shards of `batch_size` completions, longest prompts first, and keeps what is done.

    The order, the cut and each shard's seed depend only on the questions, `sampling` and `batch_size`, so a resumed
    evaluation gives the completions of an uninterrupted one. Another batch size draws other samples from the same
    distribution; its shards are kept apart.
    """

    def __init__(
        self, questions: Sequence[Question], sampling: Sampling, batch_size: int, *, work: Path, progress: Progress
    ) -> None:
        self.questions, self.sampling, self.progress = questions, sampling, progress
        self.questions_per_shard = max(1, batch_size // sampling.num_samples)
        self.desk = work.parent
        self.directory = work / f"shards-of-{self.questions_per_shard}"
        self.directory.mkdir(parents=True, exist_ok=True)

    def respond(
        self, docs: list[Doc], generate: Generate, decode: Callable[[list[list[int]]], list[str]]
    ) -> list[ModelResponse]:
        """A ModelResponse for each of `docs`, in their order; a shard comes from disk where it is done.

        Raises Paused before a shard that would have to be sampled, when OUT/stop asks for it.
        `decode` turns token lists into texts without special tokens, as TRL shows completions to a reward.
        """
        by_length = sorted(docs, key=lambda doc: (-len(self.question(doc).prompt_ids), question_index(doc)))
        tokens: dict[int, list[list[int]]] = {}
        for start in range(0, len(by_length), self.questions_per_shard):
            shard = by_length[start : start + self.questions_per_shard]
            tokens |= zip(map(question_index, shard), self._tokens(shard, start, generate), strict=True)
            self.progress.advance(len(shard) * self.sampling.num_samples)
        return [self._as_response(doc, tokens[question_index(doc)], decode) for doc in docs]

    def question(self, doc: Doc) -> Question:
        """The question that `doc` was made from."""
        return self.questions[question_index(doc)]

    def _tokens(self, docs: list[Doc], start: int, generate: Generate) -> Tokens_QST:
        path = self.directory / f"{start:08d}.json"
        if path.exists():
            return read_json(path)
        if stop_is_asked(self.desk):
            raise Paused(
                f"sampled {self.progress.done} of {self.progress.total} completions when asked to stop; the next start "
                "goes on from there"
            )
        digest = hashlib.sha256(f"{self.sampling.seed}/{start}".encode()).digest()
        tokens_QST = generate(docs, int.from_bytes(digest[:4]))
        write_text(path, json.dumps(tokens_QST))
        return tokens_QST

    def _as_response(
        self, doc: Doc, tokens_ST: list[list[int]], decode: Callable[[list[list[int]]], list[str]]
    ) -> ModelResponse:
        question = self.question(doc)
        prompt_ids = list(question.prompt_ids)
        return ModelResponse(
            input=question.prompt, input_tokens=prompt_ids, text=decode(tokens_ST), output_tokens=tokens_ST
        )


def generate_within(budget: Budget, docs: list[Doc], shards: Shards, extend: Extend) -> Tokens_QST:
    """Samples one shard under a budget, by an engine's `extend`, and keeps beside it what the budget forced."""
    num_samples = shards.sampling.num_samples
    prompts_NT = [shards.question(doc).prompt_ids for doc in docs for _ in range(num_samples)]
    tokens_NT, thoughts_N = budget.complete(prompts_NT, extend)
    starts = range(0, len(prompts_NT), num_samples)
    thoughts_QS = [thoughts_N[start : start + num_samples] for start in starts]
    write_thoughts(shards.directory, dict(zip(map(question_index, docs), thoughts_QS, strict=True)))
    return [tokens_NT[start : start + num_samples] for start in starts]
