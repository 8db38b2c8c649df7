"""distilabel's OpenAILLM with what traces need and it lacks: a window of requests, seeds, finish_reason, patience."""

import asyncio
import os
import time
from asyncio import Task
from collections.abc import Callable, Generator, Iterator
from typing import Any

import openai
from distilabel.models.llms import OpenAILLM
from pydantic import PrivateAttr, SecretStr

from tasks.core.errors import UserError
from tasks.core.teachers.answers import OPENED, answer, refusal, with_opened_thoughts
from tasks.core.teachers.config import OpenAITeacher
from tasks.core.teachers.health import NUM_ROUNDS, Health, pause_s
from tasks.core.teachers.limits import Bucket

NO_KEY = "none"  # local servers want the header and ignore its value
TICK_S = 0.5
SHOWN_CHARS = 300
FILTERED = "the endpoint's content filter has removed the completion"
FATAL = (401, 402, 404)  # a key, a bill, an address or a model's name: the next request would fare no better
PASSING = (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError, openai.ConflictError)

Row = dict[str, Any]


class NoAnswer(Exception):
    """What came back with status 200 is not a chat completion."""


class OpenAITeacherLLM(OpenAILLM):
    """Samples one completion per request from an OpenAI-compatible endpoint, at most `max_concurrent` at a time."""

    max_concurrent: int
    patience_s: float
    requests_per_minute: float | None
    tokens_per_minute: float | None
    key_name: str
    block: str = "teacher"

    _health: Health = PrivateAttr()
    _requests: Bucket = PrivateAttr()
    _tokens: Bucket = PrivateAttr()
    _mean_tokens: float = PrivateAttr()

    @classmethod
    def from_config(cls, teacher: OpenAITeacher, num_workers: int, block: str = "teacher") -> "OpenAITeacherLLM":
        """Build one worker's; the key comes from the environment variable that the config names.

        `block` is the recipe's block with these keys, for messages.
        """
        sampling = {"temperature": teacher.temperature, "top_p": teacher.top_p, "max_tokens": teacher.max_new_tokens}
        rates = (teacher.requests_per_minute, teacher.tokens_per_minute)
        return cls(
            model=teacher.model,
            base_url=teacher.url,
            api_key=SecretStr(os.environ.get(teacher.api_key_env, NO_KEY)),
            key_name=teacher.api_key_env,
            block=block,
            timeout=teacher.timeout_s,
            max_retries=teacher.max_retries,
            max_concurrent=teacher.max_concurrent,
            patience_s=teacher.patience_s,
            requests_per_minute=rates[0] / num_workers if rates[0] else None,
            tokens_per_minute=rates[1] / num_workers if rates[1] else None,
            generation_kwargs=sampling,
        )

    def load(self) -> None:
        """The client, with a hook that sees its retries: a hanging endpoint is then known before they are used up."""
        super().load()
        self._health = Health(self.base_url, self.patience_s, self.timeout, self.block)
        self._requests, self._tokens = Bucket(self.requests_per_minute), Bucket(self.tokens_per_minute)
        self._mean_tokens = float(self.generation_kwargs["max_tokens"])

        async def look(request: Any) -> None:
            is_retry = request.headers.get("x-stainless-retry-count", "0") != "0"
            self._health.began(asyncio.current_task(), is_retry=is_retry)

        self._aclient = openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self.api_key.get_secret_value() if self.api_key else NO_KEY,
            max_retries=self.max_retries,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"request": [look]}, timeout=self.timeout),
        )

    def stream(self, requests: Iterator[Row], note: Callable[[str], None]) -> Generator[tuple[Row, Row]]:
        """Yields (request, answer) as they come. Raises UserError and TransientError when it is no use to go on."""
        loop = self.event_loop
        pending: dict[Task[Row], Row] = {}
        try:
            while True:
                while len(pending) < self.max_concurrent and (request := next(requests, None)) is not None:
                    pending[loop.create_task(self._ask(request))] = request
                if not pending:
                    return
                done, _ = loop.run_until_complete(
                    asyncio.wait(pending, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
                )
                for task in done:
                    yield pending.pop(task), task.result()
                note(self._health.note())
                self._health.check()
        finally:
            for task in pending:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))

    async def _ask(self, request: Row) -> Row:
        """The answer to one request, however long the endpoint makes it wait, or its refusal."""
        num_failures, num_bad_rounds, me = 0, 0, asyncio.current_task()
        while True:
            begun = time.monotonic()
            try:
                found = await self._attempt(request)
            except (*PASSING, NoAnswer, TimeoutError) as error:
                self._refuse_empty_account(error)
                self._health.failed(me, _words(error))
                # A limit of the endpoint's is no request's fault; nonsense is always laid to the request.
                is_answering = isinstance(error, NoAnswer) or self._health.answered_at > begun
                num_bad_rounds += is_answering and not isinstance(error, openai.RateLimitError)
                if num_bad_rounds == NUM_ROUNDS:
                    return refusal(f"{_words(error)} ({NUM_ROUNDS} times, while others were answered)")
                response = getattr(error, "response", None)
                await asyncio.sleep(pause_s(num_failures, response.headers.get("retry-after") if response else None))
                num_failures += 1
            except openai.APIStatusError as error:
                if error.status_code in FATAL:
                    raise self._fatal(error) from None
                self._health.answered(me)
                return refusal(_words(error), time.monotonic() - begun)
            else:
                self._health.answered(me)
                return found

    async def _attempt(self, request: Row) -> Row:
        """Ask once, with the client's own retries."""
        await self._requests.take(1)
        reserved = self._mean_tokens
        await self._tokens.take(reserved)
        begun, num_used = time.monotonic(), 0
        try:
            # The client's own limit is for the silence between two bytes; some endpoints send blanks all the while.
            async with asyncio.timeout(self.timeout * (self.max_retries + 1)):
                said = await self._aclient.chat.completions.create(
                    model=self.model, messages=request["messages"], seed=request["seed"], **self.generation_kwargs
                )
            found = _read(said, time.monotonic() - begun)
            num_used = found["num_tokens"] + (found["num_prompt_tokens"] or 0)
            self._mean_tokens += 0.1 * (num_used - self._mean_tokens)
            return found
        except ValueError as error:  # what the client makes of a body that is not JSON
            raise NoAnswer(f"the answer is not JSON ({error})") from None
        finally:
            self._tokens.give_back(reserved - num_used)

    def _refuse_empty_account(self, error: Exception) -> None:
        if isinstance(error, openai.RateLimitError) and error.code == "insufficient_quota":
            raise self._fatal(error) from None

    def _fatal(self, error: openai.APIStatusError) -> UserError:
        return UserError(
            f"The {self.block} endpoint {self.base_url} refuses: {_words(error)}. Check that it serves the model "
            f"{self.model!r} at this address, and the key in the environment variable {self.key_name} "
            f"({self.block}.api_key_env). What is finished is kept: run again to go on from there."
        )


def _words(error: Exception) -> str:
    """One line that says what went wrong."""
    cause = f" ({error.__cause__})" if isinstance(error, openai.APIConnectionError) and error.__cause__ else ""
    return f"{type(error).__name__}: {error}{cause}".replace("\n", " ")[:SHOWN_CHARS]


def _read(said: Any, latency_s: float) -> Row:
    """The answer in what the client has parsed. Raises NoAnswer when it is none, or an empty one."""
    choices: Any = getattr(said, "choices", None)
    message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    if message is None:
        shown = said if isinstance(said, str) else said.model_dump_json() if hasattr(said, "model_dump_json") else said
        raise NoAnswer(f"the answer is not a chat completion: {str(shown)[:SHOWN_CHARS]!r}")
    reason, usage = choices[0].finish_reason or "stop", said.usage
    text = assistant_text(message)
    num_tokens = usage.completion_tokens if usage else len(text.split())
    if not text:
        if reason == "content_filter":
            return refusal(FILTERED, latency_s)
        if not num_tokens:
            raise NoAnswer("the answer is empty")
    num_prompt_tokens = usage.prompt_tokens if usage else None
    return answer(text, reason, num_tokens=num_tokens, num_prompt_tokens=num_prompt_tokens, latency_s=latency_s)


def assistant_text(message: Any) -> str:
    """The whole text of an answer, with the thoughts put back in front when the endpoint has split them off.

    DeepSeek's API and vLLM's reasoning parsers move what stood between <think> and </think> into
    `reasoning_content` (newer vLLM: `reasoning`).
    """
    content = message.content or ""
    thoughts = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    if thoughts:
        return f"{OPENED}\n{thoughts.strip()}\n</think>\n\n{content.lstrip()}"
    return with_opened_thoughts(content)
