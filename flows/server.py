"""A Prefect server of its own for `r1 run`, unless the user has one (PREFECT_API_URL, or a Prefect profile).

Prefect would start one itself, but late (it takes seconds, during which we can read the recipe and import), in the
terminal's process group (Ctrl-C ends it before the flow can tell it of its own end), and so that it outlives a flow
that was killed. This one starts first, lives in a session of its own and ends with its parent, however that ends:
the pipe to its standard input then closes. It keeps its records where Prefect does, so `prefect server start` shows
them.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from typing import Any

QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "CRITICAL"}


class OwnServer:
    """The server's process as its parent sees it."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**QUIET, **os.environ},
            start_new_session=True,
        )

    def api_url(self) -> str:
        """Wait until the server answers and return its address, or that of the user's own server.

        Raises RuntimeError with what the server wrote when it did not start.
        """
        assert self._process.stdout is not None
        url = self._process.stdout.readline().decode().strip()
        if not url:
            self._errors.seek(0)
            raise RuntimeError(f"Prefect's server did not start:\n{self._errors.read().decode(errors='replace')}")
        return url


def main() -> None:
    """`python -m flows.server`: print the API's address once it answers, serve until standard input closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from prefect.settings import PREFECT_API_URL

    if configured := PREFECT_API_URL.value():
        print(configured, flush=True)
        return
    import uvicorn
    from prefect.server.api.server import create_app

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[Any] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(f"http://127.0.0.1:{listener.getsockname()[1]}/api", flush=True)

    app = create_app(ephemeral=True, final=True)
    Server(uvicorn.Config(app, log_level="error", lifespan="on")).run([listener])


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
