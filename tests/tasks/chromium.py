"""A real headless Chromium for tests, driven over the DevTools protocol with the `websockets` client."""

import base64
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

BINARY = Path("/usr/bin/chromium")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-port=0"
).split()
START_S, ANSWER_S = 30.0, 20.0
# Every element that reaches beyond the window and has no scrolling box of its own around it.
OVERFLOWING = """[...document.querySelectorAll('body *')].filter(one => !one.closest('.scroll, pre, svg, .hidden')
  && one.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .map(one => one.tagName + '.' + one.className)"""
# The least contrast (WCAG) of any text with the nearest background under it, with the element it is found in.
WORST_CONTRAST = """(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const linear = part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const fill = one => getComputedStyle(one.matches('g.node') ? one.querySelector('rect') : one)
    [one.matches('g.node') ? 'fill' : 'backgroundColor'];
  const back = one => {
    for (; one; one = one.parentElement) {
      const colour = parse(fill(one));
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let worst = [99, ''];
  for (const one of document.querySelectorAll('body *')) {
    if (one.closest('.hidden, title')) continue;
    if (![...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const ink = getComputedStyle(one)[one.closest('svg') ? 'fill' : 'color'];
    const pair = [light(parse(ink)), light(back(one))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (ratio < worst[0]) worst = [ratio, `${one.outerHTML.slice(0, 120)}`];
  }
  return worst;
})()"""


class Page:
    """One tab: what it requested and reported is collected while its methods wait for answers."""

    def __init__(self, connection: ClientConnection, session_id: str) -> None:
        self.connection, self.session_id = connection, session_id
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._last_id = 100
        self._loaded = False
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result, collecting the events that come before it."""
        self._last_id += 1
        message = {"id": self._last_id, "sessionId": self.session_id, "method": method, "params": params}
        self.connection.send(json.dumps(message))
        while True:
            answer = self._receive()
            if answer.get("id") == self._last_id:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def open(self, path: Path, width: int, *, dark: bool = False) -> None:
        """Load a local file at `width` CSS pixels and wait for its load event."""
        mobile = width < 700
        self.requests.clear()
        self.complaints.clear()
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded = False
        answer = self.send("Page.navigate", url=path.resolve().as_uri())
        assert "errorText" not in answer, f"{path}: {answer['errorText']}"
        while not self._loaded:
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _receive(self) -> dict[str, Any]:
        message = json.loads(self.connection.recv(timeout=ANSWER_S))
        params = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(params["args"]))
            case "Log.entryAdded":
                self.complaints.append(f"{params['entry']['level']}: {params['entry']['text']}")
        return message


def assert_fits_and_is_quiet(page: Page, path: Path) -> None:
    """No sideways scrolling of the page, nothing fetched but the file itself, nothing on the console."""
    assert page.evaluate(OVERFLOWING) == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.requests == [path.resolve().as_uri()]
    assert page.complaints == []


@contextlib.contextmanager
def open_page() -> Iterator[Page]:
    """Start Chromium with a fresh profile and yield its only tab; the process is ended on the way out."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [str(BINARY), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port, browser = _wait_for_port(Path(profile) / "DevToolsActivePort", process)
            with connect(f"ws://127.0.0.1:{port}{browser}", max_size=None, proxy=None) as connection:
                target = _ask(connection, 1, "Target.createTarget", url="about:blank")["targetId"]
                session = _ask(connection, 2, "Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
                yield Page(connection, session)
        finally:
            process.terminate()
            process.wait(timeout=START_S)


def _wait_for_port(path: Path, process: subprocess.Popen[bytes]) -> tuple[str, str]:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        lines = path.read_text().split("\n") if path.exists() else []
        if len(lines) == 2:
            return lines[0], lines[1]
        assert process.poll() is None, f"Chromium ended with exit code {process.returncode}"
        time.sleep(0.05)
    raise TimeoutError(f"Chromium did not open its DevTools port within {START_S} s")


def _ask(connection: ClientConnection, number: int, method: str, **params: Any) -> dict[str, Any]:
    connection.send(json.dumps({"id": number, "method": method, "params": params}))
    while True:
        answer = json.loads(connection.recv(timeout=ANSWER_S))
        if answer.get("id") == number:
            return answer["result"]
