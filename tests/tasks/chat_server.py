"""A real local HTTP server that speaks /v1/chat/completions and answers from the request's content alone."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import pytest

from tasks.core.teachers import health, openai_llm

STATUS = {
    "400": "context is too long",
    "401": "who are you",
    "404": "no such model",
    "429": "slow down",
    "500": "broken",
}


class ChatServer(ThreadingHTTPServer):
    """Counts and keeps what it is asked; can stop answering (`hang_after`) or fail (`fail_after`) after n requests.

    The thoughts of an answer are "seed <seed>", split off as reasoning parsers do; the content is the last message
    inside answer tags; odd seeds are cut off ("length"); the completion's tokens are the seed modulo 100.

    `faults` are what the next requests meet instead, in turn, and `always` what all do: a status of STATUS, "hang",
    "close" (in the middle of the body), "nothing" (an empty body), "html", "torn" (broken JSON), "choiceless",
    "empty" (no text), "filtered", "surrogate", "uncounted" (no usage). Requests that hold the text `refuse_if` meet
    400, those with `break_if` 500.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.base_url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.asked_at: list[float] = []
        self.hang_after: int | None = None
        self.fail_after: int | None = None
        self.faults: list[str] = []
        self.always: str | None = None
        self.refuse_if: str | None = None
        self.break_if: str | None = None
        self.retry_after = "0.3"
        self.delay_s = 0.01
        self.num_hanging = self.at_once = self.most_at_once = self.num_answered = 0
        self.lock = threading.Lock()

    def __enter__(self) -> "ChatServer":
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions", self.path
        with server.lock:
            server.requests.append(request)
            server.headers.append(dict(self.headers))
            server.asked_at.append(time.monotonic())
            number = len(server.requests)
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            fault = server.faults.pop(0) if server.faults else server.always
        if server.hang_after is not None and number > server.hang_after:
            fault = "hang"
        if server.fail_after is not None and number > server.fail_after:
            fault = "500"
        if server.refuse_if is not None and server.refuse_if in json.dumps(request["messages"]):
            fault = "400"
        if server.break_if is not None and server.break_if in json.dumps(request["messages"]):
            fault = "500"
        if fault == "hang":
            with server.lock:
                server.num_hanging += 1
                server.at_once -= 1
            time.sleep(3600)
        time.sleep(server.delay_s)
        with server.lock:
            server.at_once -= 1
        self._reply(request, fault or "")
        with server.lock:
            server.num_answered += 1

    def _reply(self, request: dict[str, Any], fault: str) -> None:
        answer = _answer(request)
        choice = answer["choices"][0]
        if fault in STATUS:
            answer = {"error": {"message": STATUS[fault]}}
        elif fault == "choiceless":
            del answer["choices"]
        elif fault in ("empty", "filtered"):
            choice["message"] = {"role": "assistant", "content": None}
            choice["finish_reason"] = "content_filter" if fault == "filtered" else "stop"
            answer["usage"]["completion_tokens"] = 0
        elif fault == "uncounted":
            del answer["usage"]
        elif fault == "surrogate":
            choice["message"] = {"role": "assistant", "content": "a\ud800b\0c"}
        body = json.dumps(answer).encode()
        body = {"nothing": b"", "html": b"<html>Welcome</html>", "torn": body[:20]}.get(fault, body)
        self.send_response(int(fault) if fault in STATUS else 200)
        self.send_header("Content-Type", "text/html" if fault == "html" else "application/json")
        self.send_header("Content-Length", str(len(body)))
        if fault == "429":
            self.send_header("Retry-After", self.server.retry_after)
        self.end_headers()
        self.wfile.write(body[:10] if fault == "close" else body)
        if fault == "close":
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Quiet."""


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    seed, content = request["seed"], f"<answer> {request['messages'][-1]['content']} </answer>"
    message = {"role": "assistant", "content": content, "reasoning_content": f"seed {seed}"}
    choice = {"index": 0, "message": message, "finish_reason": "length" if seed % 2 else "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": seed % 100, "total_tokens": 5 + seed % 100}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": request["model"], "choices": [choice]} | {
        "usage": usage
    }


def shorten_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a client wait for hundredths of a second where it waits for seconds."""
    monkeypatch.setattr(health, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(health, "LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(openai_llm, "TICK_S", 0.05)
