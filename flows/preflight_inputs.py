"""What is known of a stage's model and problems before they are built: from the store, a path, the hub's cache."""

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from flows.accelerate import find_config
from flows.plan import Plan, PlannedStage
from tasks.core.errors import TransientError, UserError
from tasks.core.files import read_json
from tasks.core.hub import hub_errors
from tasks.core.preflight.model_shape import ModelShape, read_shape, shape_of_config
from tasks.core.store import Hit, Store

CONFIG = "config.json"
TIMEOUT_S = 5
SCRATCH_VOCABULARY = 300
"""About the tokens that are no integers, in the vocabulary of a model from scratch."""


def stored(plan: Plan, stage: PlannedStage, key: str, store: Store) -> Path | None:
    """The artifact behind the stage's input `key`, when the store has it whole."""
    source = stage.spec.inputs.get(key)
    return _artifact(plan[source], store) if isinstance(source, str) else None


def model_shape(plan: Plan, stage: PlannedStage, store: Store) -> ModelShape | None:
    """The shape of the stage's input `model`; training changes none, so what that one was made from tells it too."""
    source = stage.spec.inputs.get("model")
    if not isinstance(source, str):
        return None
    maker = plan[source]
    if artifact := _artifact(maker, store):
        return read_shape(artifact / "model")
    return _shape_of_source(maker.spec.config) if _fetches(maker) else model_shape(plan, maker, store)


def num_problems(plan: Plan, stage: PlannedStage, store: Store) -> int | None:
    """Rows of the train split, None where nothing says how many there will be."""
    source = stage.spec.inputs.get("problems")
    if not isinstance(source, str):
        return None
    if artifact := _artifact(plan[source], store):
        return _num_train(artifact / "problems.parquet")
    number = getattr(plan[source].spec.config, "num_train", None)
    return number if isinstance(number, int) else None


def fetch_configs(plan: Plan, store: Store) -> list[str]:
    """Have the hub send config.json, some kilobytes, of models that are not there yet. Returns what went wrong."""
    from huggingface_hub import constants, hf_hub_download

    problems = []
    for maker in plan.stages:
        config: Any = maker.spec.config
        if not _fetches(maker) or config.source != "hub" or _artifact(maker, store):
            continue
        if (_hub_snapshot(config.model_id, config.revision) / CONFIG).is_file():
            continue
        what = f"config.json of {config.model_id!r} at revision {config.revision!r}"
        try:
            with hub_errors(what, "`source: local` with a checkpoint that lies on this machine"):
                _knock(constants.ENDPOINT)
                hf_hub_download(config.model_id, CONFIG, revision=config.revision, etag_timeout=TIMEOUT_S)
        except (UserError, TransientError) as error:
            problems.append(f"{maker.name}: {error}")
    return problems


def accelerate_text(name: str | None) -> str | None:
    """The text of the file that `resources.accelerate` names."""
    if name is None:
        return None
    return find_config(name).read_text(encoding="utf-8")


def _artifact(maker: PlannedStage, store: Store) -> Path | None:
    found = store.glance(maker.spec.stage.name, maker.fingerprint)
    return found.path if isinstance(found, Hit) else None


def _fetches(maker: PlannedStage) -> bool:
    return maker.spec.stage.name == "fetch_model"


def _shape_of_source(config: Any) -> ModelShape | None:
    """What fetch_model will fetch, as far as this machine has its config.json."""
    overrides = getattr(config, "config_overrides", None)
    if config.source == "scratch" and config.scratch is not None:
        return shape_of_config(_scratch_config(config.scratch) | (overrides or {}))
    if config.source == "local" and config.path:
        return read_shape(Path(config.path).expanduser(), overrides)
    if config.source == "hub" and config.model_id:
        return read_shape(_hub_snapshot(config.model_id, config.revision), overrides)
    return None


def _scratch_config(scratch: Any) -> dict[str, Any]:
    return {
        "model_type": scratch.architecture,
        "hidden_size": scratch.hidden_size,
        "intermediate_size": scratch.intermediate_size,
        "num_hidden_layers": scratch.num_layers,
        "num_attention_heads": scratch.num_heads,
        "vocab_size": SCRATCH_VOCABULARY + (scratch.max_integer or 0),
        "max_position_embeddings": scratch.max_positions,
        "tie_word_embeddings": True,
    }


def _hub_snapshot(model_id: str, revision: str) -> Path:
    """Where huggingface_hub keeps it, if it has been downloaded."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()
    return cache / f"models--{model_id.replace('/', '--')}" / "snapshots" / revision


def _knock(endpoint: str) -> None:
    """Raise ConnectionError at once where nobody answers; the hub's client would try again for half a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", ""):
        return
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except OSError as error:
        raise ConnectionError(str(error)) from error


def _num_train(path: Path) -> int | None:
    """From the stage's metrics where they say it, else counted."""
    metrics = read_json(path.parent / "metrics.json")
    if isinstance(number := metrics.get("num_train"), int):
        return number
    import pyarrow.parquet as pq

    return int(pq.read_table(path, columns=["split"])["split"].to_pylist().count("train"))
