"""Whether an endpoint is down, and for how long."""

import random
import time

from tasks.core.errors import TransientError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
NUM_ROUNDS = 3
"""So often a request may use up its retries while the endpoint answers others; then the request is what is wrong."""


SERVED_S = 20.0  # an attempt that lasts longer has been accepted; refusals and broken connections come sooner


class Health:
    """Keeps when the endpoint last answered, since when it fails, and which attempts are in flight.

    One failed attempt proves little while long completions are on their way: whatever is being served is waited for,
    up to `timeout_s`, by which a healthy endpoint has answered. `block` is the recipe's block that describes it.
    """

    def __init__(self, url: str, patience_s: float, timeout_s: float, block: str = "teacher") -> None:
        self.url, self.patience_s, self.timeout_s, self.block = url, patience_s, timeout_s, block
        self.answered_at, self._down_since, self._why = float("-inf"), float("inf"), ""
        self._begun: dict[object, float] = {}

    def began(self, request: object, *, is_retry: bool) -> None:
        """An attempt at `request` is sent; a retry tells that the one before has failed."""
        self._begun[request] = time.monotonic()
        if is_retry:
            self._down_since = min(self._down_since, time.monotonic())

    def answered(self, request: object) -> None:
        """It has given a full answer, or refused a request for a reason."""
        self._begun.pop(request, None)
        self.answered_at, self._down_since, self._why = time.monotonic(), float("inf"), ""

    def failed(self, request: object, why: str) -> None:
        """The last attempt at `request` has failed."""
        self._begun.pop(request, None)
        self._down_since, self._why = min(self._down_since, time.monotonic()), why

    def note(self) -> str:
        """What the progress shall say; empty while it is up."""
        down_s = time.monotonic() - self._down_since
        return f"endpoint down for {down_s:.0f} s {self._why}".rstrip() if down_s > 1 and not self._serves() else ""

    def check(self) -> None:
        """Raises TransientError once it has been down for longer than `patience_s`."""
        most_s = self.patience_s + (self.timeout_s if self._serves() else 0.0)
        if time.monotonic() - self._down_since > most_s:
            raise TransientError(
                f"The {self.block} endpoint {self.url} has not answered one request for more than {most_s:g} s "
                f"({self.block}.patience_s): {self._why or 'its requests time out'}. What is finished is kept: run "
                "again when it is back."
            )

    def _serves(self) -> bool:
        """Whether some attempt has been in flight for so long that it must have been accepted."""
        return any(time.monotonic() - begun > SERVED_S for begun in self._begun.values())


def pause_s(num_failures: int, retry_after: str | None) -> float:
    """How long to wait after the n-th failure (from 0): what the endpoint asks for, else ever longer, with jitter.

    The openai client does the same inside its own retries, and gives up where Retry-After is above two minutes.
    """
    try:
        asked = float(retry_after or "")
    except ValueError:
        asked = 0.0
    grown = min(FIRST_PAUSE_S * 2.0**num_failures, LONGEST_PAUSE_S)
    return asked if 0 < asked < float("inf") else grown * random.uniform(0.75, 1.0)
