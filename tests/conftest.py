"""What many tests share: one real Prefect server for the session, the `r1` command, a toy stage, a home for Prefect."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect_process import PrefectServer
from r1_process import R1, TOYS_DIR, kill_stages

# Before anything imports Prefect: no test may read or write the user's own home of Prefect. Its logs stay here, or this
# process would try to send the last ones to the session's server when that has ended.
PREFECT_HOME = tempfile.mkdtemp(prefix="r1-prefect-")
os.environ |= {"PREFECT_HOME": PREFECT_HOME, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "OMP_NUM_THREADS": "1"}
os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as a shell's background jobs have it: all that we start inherits it
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "R1_STORE"):
    os.environ.pop(name, None)


def pytest_sessionfinish() -> None:
    """Forget Prefect's home of this session."""
    shutil.rmtree(PREFECT_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def prefect_url() -> Iterator[str]:
    """The API address of a full `prefect server start` of this session."""
    server = PrefectServer(Path(PREFECT_HOME))
    try:
        server.start()
        yield server.url
    finally:
        server.end()


@pytest.fixture
def prefect_server(prefect_url: str, toy_stage: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """For a flow in this process: Prefect's settings name the session's server, and the toy stage is known."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("PREFECT_API_URL", prefect_url)
    with temporary_settings({PREFECT_API_URL: prefect_url}):
        yield prefect_url


@pytest.fixture
def toy_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `stage: toy` known in this process and in those that it starts."""
    import tasks
    from flows import registry

    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(TOYS_DIR / "stages")])
    monkeypatch.setattr(registry, "STAGES", (*registry.STAGES, "toy"))
    monkeypatch.setenv("PYTHONPATH", str(TOYS_DIR))


@pytest.fixture
def r1(tmp_path: Path, prefect_url: str) -> Iterator[R1]:
    """The r1 command; what its store's stages left running is ended with the test."""
    command = R1(tmp_path, prefect_url)
    yield command
    kill_stages(command.store)


@pytest.fixture
def offline_r1(tmp_path: Path) -> R1:
    """The r1 command for what needs no Prefect server; an attempt to reach one fails."""
    return R1(tmp_path, "http://127.0.0.1:9/api")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: begun last, one of them would leave the other worker with nothing to do."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
