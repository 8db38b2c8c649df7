"""SwanLab's modes and the other trackers: what is refused, where they write, which rows they see."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.errors import TransientError, UserError
from tasks.core.trackers import chosen_trackers, prepare_trackers, show_numbers_only, start_swanlab, swanlab_record
from tasks.train_sft import TrainSftConfig

KEY = "canary-0815"


@pytest.fixture
def refusing_server() -> Iterator[str]:
    """A SwanLab server that knows nobody."""

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(401)
            self.end_headers()
            self.wfile.write(json.dumps({"code": "401", "message": "no such key"}).encode())

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MODE", "API_KEY", "API_HOST", "WEB_HOST", "ROOT", "SAVE_DIR"):
        monkeypatch.delenv(f"SWANLAB_{name}", raising=False)


def test_swanlab_is_offline_and_the_record_says_where(tmp_path: Path) -> None:
    import swanlab

    start_swanlab(tmp_path, "sft", {"learning_rate": 1.0})
    try:
        assert swanlab_record() == {"swanlab": {"mode": "offline", "url": None, "folder": "swanlog"}}
    finally:
        swanlab.finish()
    assert swanlab_record() == {} and list((tmp_path / "swanlog").glob("run-*"))


def test_swanlab_mode_that_is_none_and_an_online_run_without_key_are_the_users_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWANLAB_MODE", "onlin")
    with pytest.raises(UserError, match=r"SWANLAB_MODE is 'onlin': set it to offline, online, cloud, disabled"):
        start_swanlab(tmp_path, "sft", {})
    monkeypatch.setenv("SWANLAB_MODE", "online")
    with pytest.raises(UserError, match=r"SWANLAB_MODE is online, but there is no API key: set SWANLAB_API_KEY"):
        start_swanlab(tmp_path, "sft", {})


def test_swanlab_server_of_ones_own_is_asked_and_its_refusal_told_without_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing_server: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("MODE", "online"), ("API_KEY", KEY), ("API_HOST", refusing_server)):
        monkeypatch.setenv(f"SWANLAB_{name}", value)
    with pytest.raises(TransientError, match=f"SwanLab at {refusing_server}.* did not take the run") as caught:
        start_swanlab(tmp_path, "sft", {})
    assert KEY not in str(caught.value) and KEY not in "".join(capfd.readouterr())
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("tensorbord", "names 'tensorbord'; nearest: tensorboard: give some of "),
        (["wandb", "all"], "names 'all': give some of "),
    ],
)
def test_report_to_that_names_no_tracker_is_refused_with_the_recipe(given: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainSftConfig(sft={"report_to": given}, seed=0)
    (mistake,) = caught.value.errors()
    assert mistake["loc"] == ("sft", "report_to") and mistake["msg"].startswith(said)
    assert mistake["msg"].endswith("(SwanLab is always on)")


def test_report_to_names_what_comes_beside_swanlab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert chosen_trackers(None) == chosen_trackers("none") == []
    assert chosen_trackers(["swanlab", "mlflow", "tensorboard"]) == ["mlflow", "tensorboard"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mine")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    prepare_trackers(["mlflow", "tensorboard"], tmp_path)
    import os

    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "tracking" / "tensorboard")
    assert os.environ.pop("TENSORBOARD_LOGGING_DIR") and os.environ["MLFLOW_TRACKING_URI"] == "http://mine"


def test_trackers_see_numbers_only_and_other_callbacks_see_all() -> None:
    def callback(module: str) -> Any:
        seen: list[dict[str, Any]] = []

        class Callback:
            def on_log(self, args: Any, logs: dict[str, Any], **kwargs: Any) -> None:
                seen.append(logs)

        Callback.__module__ = module
        return Callback(), seen

    tracker, told = callback("transformers.integrations.integration_utils")
    other, all_told = callback("tasks.core.training")
    trainer: Any = SimpleNamespace(callback_handler=SimpleNamespace(callbacks=[tracker, other]))
    show_numbers_only(trainer)
    row = {"loss": 0.5, "rewards/accuracy/mean": None, "kl": float("nan"), "step": 3}
    for one in (tracker, other):
        one.on_log("args", logs=row)
    assert told == [{"loss": 0.5, "step": 3}] and all_told == [row]
