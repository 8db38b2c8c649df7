"""The endpoint teacher against a real server that misbehaves in every way we know, with the real openai client."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.core.errors import TransientError, UserError
from tasks.core.teachers import health
from tasks.core.teachers.config import OpenAITeacher
from tasks.core.teachers.openai_llm import OpenAITeacherLLM
from tests.tasks.chat_server import ChatServer, shorten_pauses


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_pauses(monkeypatch)


def make_llm(base_url: str, **fields: Any) -> OpenAITeacherLLM:
    config = {"kind": "openai", "model": "m", "temperature": 0.6, "top_p": 0.95, "max_new_tokens": 64, "max_retries": 0}
    teacher = OpenAITeacher(**{"base_url": base_url, "max_concurrent": 4, "patience_s": 5.0} | config | fields)
    llm = OpenAITeacherLLM.from_config(teacher, num_workers=1)
    llm.load()
    return llm


def requests(num: int) -> list[dict[str, Any]]:
    return [{"messages": [{"role": "user", "content": f"q{i}"}], "seed": 2 * i} for i in range(num)]


def ask(llm: OpenAITeacherLLM, num: int, notes: list[str] | None = None) -> list[dict[str, Any]]:
    """The answers in the order of the requests."""
    seen = [] if notes is None else notes
    pairs = list(llm.stream(iter(requests(num)), lambda text: seen.append(text) if text else None))
    return [answer for _, answer in sorted(pairs, key=lambda pair: pair[0]["seed"])]


def assert_good(answers: list[dict[str, Any]]) -> None:
    for i, answer in enumerate(answers):
        assert answer["completion"] == f"<think>\nseed {2 * i}\n</think>\n\n<answer> q{i} </answer>"
        assert (answer["finish_reason"], answer["error"]) == ("stop", None)
        assert (answer["num_tokens"], answer["num_prompt_tokens"]) == (2 * i % 100, 5)


@pytest.mark.parametrize("fault", ["500", "429", "close", "nothing", "html", "torn", "choiceless", "empty"])
def test_endpoint_that_fails_now_and_then_is_asked_again(server: ChatServer, fault: str) -> None:
    server.faults, server.retry_after = [fault, "", fault], "0.05"
    assert_good(ask(make_llm(server.base_url), 6))
    assert len(server.requests) == 8


def test_endpoint_that_hangs_once_is_given_up_after_the_timeout_and_asked_again(server: ChatServer) -> None:
    server.faults = ["hang"]
    began = time.monotonic()
    assert_good(ask(make_llm(server.base_url, timeout_s=1), 3))
    assert 1 <= time.monotonic() - began and len(server.requests) == 4


def test_endpoint_that_says_how_long_to_wait_is_left_alone_so_long(server: ChatServer) -> None:
    server.faults, server.retry_after = ["429"], "0.7"
    assert_good(ask(make_llm(server.base_url, max_retries=2), 1))  # by the client
    assert_good(ask(make_llm(server.base_url, max_retries=0), 1))
    assert server.asked_at[1] - server.asked_at[0] >= 0.7
    server.faults, before = ["429"], len(server.asked_at)
    assert_good(ask(make_llm(server.base_url, max_retries=0), 1))  # by us
    assert server.asked_at[before + 1] - server.asked_at[before] >= 0.7


@pytest.mark.parametrize("fault", ["500", "429", "hang", "close"])
def test_endpoint_that_stays_down_ends_in_a_transient_error(server: ChatServer, fault: str) -> None:
    # The hook sees the retry of a request that hangs before the client has used up its retries, ten seconds on.
    llm = make_llm(server.base_url, timeout_s=1, patience_s=0.2, max_retries=9 if fault == "hang" else 0)
    answers = llm.stream(iter(requests(20)), lambda text: None)
    good = [next(answers)[1], next(answers)[1]]
    server.always = fault
    with pytest.raises(TransientError, match=rf"{server.base_url} has not answered one request for more than 0.2 s"):
        good += [answer for _, answer in answers]
    assert all(answer["error"] is None for answer in good)


def test_endpoint_that_refuses_connections_is_waited_for(server: ChatServer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, notes = f"http://127.0.0.1:{port}/v1", []
    with pytest.raises(TransientError, match="APIConnectionError"):
        ask(make_llm(url, patience_s=1.1), 3, notes)
    assert any("endpoint down for" in note for note in notes)
    llm = make_llm(url, patience_s=30.0)
    answers = llm.stream(
        iter(requests(3)), lambda text: late.append(ChatServer(port).__enter__()) if not late else None
    )
    late: list[ChatServer] = []
    assert_good([answer for _, answer in sorted(answers, key=lambda pair: pair[0]["seed"])])
    late[0].__exit__(None, None, None)


def test_request_that_is_refused_becomes_an_error_and_the_others_go_on(server: ChatServer) -> None:
    server.refuse_if = "q2"
    answers = ask(make_llm(server.base_url), 5)
    assert answers[2] == answers[2] | {"completion": "", "finish_reason": "error", "num_tokens": 0}
    assert "context is too long" in answers[2]["error"]
    assert [answer["error"] is None for answer in answers] == [True, True, False, True, True]
    assert len(server.requests) == 5, "a refusal is not asked again"


def test_request_whose_answer_the_filter_took_is_an_error(server: ChatServer) -> None:
    server.faults = ["filtered"]
    errors = [answer["error"] for answer in ask(make_llm(server.base_url, max_concurrent=1), 2)]
    assert errors[1] is None and "content filter" in str(errors[0])


def test_request_that_always_fails_while_others_are_answered_is_an_error(server: ChatServer) -> None:
    server.break_if, server.delay_s = "q0", 0.03
    answers = ask(make_llm(server.base_url, max_concurrent=2), 20)
    assert "InternalServerError" in answers[0]["error"] and "while others were answered" in answers[0]["error"]
    assert all(answer["error"] is None for answer in answers[1:])


def test_endpoint_that_talks_nonsense_only_is_soon_told(server: ChatServer) -> None:
    server.always = "html"
    answers = ask(make_llm(server.base_url), 3)
    assert all("not a chat completion: '<html>Welcome</html>'" in answer["error"] for answer in answers)
    assert len(server.requests) == 9, "each is tried three times"


@pytest.mark.parametrize(("fault", "words"), [("401", "who are you"), ("404", "no such model")])
def test_endpoint_that_would_refuse_everything_ends_the_run_at_once(server: ChatServer, fault: str, words: str) -> None:
    server.always = fault
    with pytest.raises(UserError, match=rf"{words}.*'m'.*OPENAI_API_KEY"):
        ask(make_llm(server.base_url), 50)
    assert len(server.requests) <= 8


def test_text_that_utf8_cannot_hold_is_made_to_fit(server: ChatServer) -> None:
    server.faults = ["surrogate"]
    assert ask(make_llm(server.base_url), 1)[0]["completion"] == "a\ufffdb\0c"


def test_requests_per_minute_are_kept_to(server: ChatServer) -> None:
    llm, began = make_llm(server.base_url, requests_per_minute=600.0), time.monotonic()
    assert_good(ask(llm, 6))
    # The first may be late and must not make the others early; without a limit all have come after 0.02 s.
    assert all(asked - began >= 0.1 * number for number, asked in enumerate(sorted(server.asked_at)))


def test_tokens_per_minute_are_kept_to(server: ChatServer) -> None:
    """Seeds of 50, 5 + 50 tokens each at 100 a second; 64 are reserved at first, and what is not used is returned."""
    llm = make_llm(server.base_url, tokens_per_minute=6000.0, max_concurrent=1)
    same = [{"messages": [{"role": "user", "content": "q"}], "seed": 50} for _ in range(3)]
    began = time.monotonic()
    assert [answer["num_tokens"] for _, answer in llm.stream(iter(same), lambda text: None)] == [50, 50, 50]
    assert 1.09 <= time.monotonic() - began


def test_concurrency_is_kept_to_and_used(server: ChatServer) -> None:
    server.delay_s = 0.05
    assert_good(ask(make_llm(server.base_url, max_concurrent=5), 20))
    assert server.most_at_once == 5


def test_endpoint_at_work_on_long_completions_is_not_down_for_one_failure(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The patience is over before the first answer comes; what is in flight for 0.1 s here is being served."""
    monkeypatch.setattr(health, "SERVED_S", 0.1)
    server.faults, server.delay_s = ["close"], 0.8
    assert_good(ask(make_llm(server.base_url, patience_s=0.3), 4))
    assert len(server.requests) == 5
