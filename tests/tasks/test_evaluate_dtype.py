"""What the weights are loaded as, in both engines of a local checkpoint."""

import sys
import types
from pathlib import Path

import pytest
from bigram_model import save_bigram_model
from evaluation_inputs import FOLLOWS, WORDS, config

from tasks.core.checkpoint import Checkpoint, read_checkpoint
from tasks.core.progress import Progress


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("model")
    save_bigram_model(path, WORDS, FOLLOWS)
    return read_checkpoint(path)


def shards_and_sampling(checkpoint: Checkpoint, root: Path) -> tuple:
    from tasks.core.harness.records import Question, Sampling
    from tasks.core.harness.shards import Shards

    sampling = Sampling(num_samples=2, temperature=1.0, top_p=1.0, max_new_tokens=4, seed=7)
    questions = [Question("p", "math", "3", "make", (5, 6))]
    return sampling, Shards(questions, sampling, 4, work=root / "work", progress=Progress(root, 2, "completions"))


@pytest.mark.parametrize(("dtype", "wanted"), [(None, "float32"), ("auto", "float32"), ("bfloat16", "bfloat16")])
def test_transformers_engine_weights_are_loaded_as_said(checkpoint, tmp_path, dtype, wanted):
    """The checkpoint is saved in float32."""
    import torch

    from tasks.core.harness.transformers_engine import TransformersEngine

    engine = TransformersEngine(checkpoint, *shards_and_sampling(checkpoint, tmp_path), dtype)
    assert engine.model.dtype is getattr(torch, wanted)


@pytest.mark.parametrize(("dtype", "wanted"), [(None, "auto"), ("float16", "float16")])
def test_vllm_engine_dtype_is_passed_on(checkpoint, tmp_path, monkeypatch, dtype, wanted):
    asked = {}
    vllm = types.ModuleType("vllm")
    vllm.LLM = lambda **arguments: asked.update(arguments)
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    from tasks.core.harness.vllm_engine import VllmEngine

    VllmEngine(checkpoint, *shards_and_sampling(checkpoint, tmp_path), dtype)
    assert asked["dtype"] == wanted


def test_config_dtype_is_identity_and_auto_is_the_same_as_none():
    assert config(dtype="auto").identity() == config().identity()
    assert config(dtype="bfloat16").identity() == config().identity() | {"dtype": "bfloat16"}
    with pytest.raises(ValueError, match="dtype"):
        config(dtype="int8")
