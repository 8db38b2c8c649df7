"""A real local HTTP server that speaks /v1/chat/completions and answers from the request's seed alone."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class ChatServer(ThreadingHTTPServer):
    """Counts and keeps what it is asked; can stop answering (`hang_after`) or fail (`fail_after`) after n requests.

    The thoughts of an answer are "seed <seed>", split off as reasoning parsers do; the content is the last message
    inside answer tags; odd seeds are cut off ("length"); the completion's tokens are the seed modulo 100.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.base_url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.requests: list[dict[str, Any]] = []
        self.hang_after: int | None = None
        self.fail_after: int | None = None
        self.num_hanging = self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def __enter__(self) -> "ChatServer":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions", self.path
        with server.lock:
            server.requests.append(request)
            number = len(server.requests)
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        if server.hang_after is not None and number > server.hang_after:
            with server.lock:
                server.num_hanging += 1
                server.at_once -= 1
            time.sleep(3600)
        time.sleep(0.01)
        is_failing = server.fail_after is not None and number > server.fail_after
        body = json.dumps({"error": {"message": "out of order"}} if is_failing else _answer(request)).encode()
        with server.lock:
            server.at_once -= 1
        self.send_response(500 if is_failing else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

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
