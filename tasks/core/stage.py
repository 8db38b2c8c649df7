"""What a stage is: a name, a version, a typed config, named inputs and one plain function."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class StageConfig(BaseModel):
    """Base of every stage's config: frozen, strict, no unknown keys; a docstring under each field documents it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, protected_namespaces=()
    )

    def identity(self) -> dict[str, Any]:
        """The scientific part as plain JSON values: every field that is not operational."""
        operational_keys = {
            key
            for key, info in type(self).model_fields.items()
            if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("operational")
        }
        return self.model_dump(mode="json", exclude=operational_keys)


def operational(default: Any) -> Any:
    """A field that says how to run, not what to compute: it has a default and is not part of the identity."""
    return Field(default=default, json_schema_extra={"operational": True})


@dataclass(frozen=True)
class Input:
    """One named input: the stages whose artifact it accepts, and whether it may be left out.

    `every` marks the report's input: all artifacts of the run, passed as {stage name: directory}.
    """

    accepts: tuple[str, ...] = ()
    optional: bool = False
    every: bool = False


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline.

    `run(config, out=DIR, **inputs)` reads the input directories, writes its files and `metrics.json` into DIR and
    returns nothing. What lies under DIR/work is scratch for resuming and is not published. `libraries` names the
    distributions whose versions decide the output; they are part of the fingerprint.

    `share(config, out=DIR, share=(I, N), desk=DESK, **inputs)` does the I-th of N shares of the parts that are not done
    yet, commits each below DIR/work and assembles nothing; `run` does what is missing and assembles, so shares only
    save time. progress.json and `stop` of a share lie in DESK, its own directory: `Progress(desk, ...)`,
    `stop_is_asked(desk)`. N processes may start in the same second on N nodes. None: it cannot be shared out.
    `is_distributed`: it may run as several processes, one a GPU, on one node or more (`accelerate launch`).
    `memory_advice` completes "out of memory: ..." with the keys of the recipe to change.
    `check_inputs(config, names)` says what is wrong with the inputs that are given, for this config, as {input: text}
    with a text such as "is missing: ..."; for stages whose config decides which optional inputs they need.
    """

    name: str
    version: int
    config: type[StageConfig]
    run: Callable[..., None]
    inputs: Mapping[str, Input] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    share: Callable[..., None] | None = None
    is_distributed: bool = False
    memory_advice: str = ""
    check_inputs: Callable[[Any, Collection[str]], Mapping[str, str]] | None = None

    @property
    def takes_all(self) -> bool:
        """Whether it reads every artifact of the run, to tell of the run."""
        return any(one.every for one in self.inputs.values())
