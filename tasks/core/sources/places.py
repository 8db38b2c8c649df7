"""Where rows lie: files of this machine, a data set on the Hugging Face hub, one on ModelScope; and which are taken.

Every class has `identity()`, its part of the fingerprint: what decides its rows. A file counts by its content and a
repository by its pinned commit, never by where they lie. It is asked for while planning, so it loads no heavy library.

A column is named by its name, or by a path into nested values: `prompt.0.value` is the key `value` of the first item of
the list in column `prompt`.
"""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.sources.files import digest_of

Scalar = bool | int | float | str | None
Conditions = dict[str, tuple[Scalar, ...]]


class Block(BaseModel):
    """A source, or a part of one: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
    later: ClassVar[frozenset[str]] = frozenset()
    """Keys that came after the first release: no part of the identity where they are not used."""

    def identity(self) -> dict[str, Any]:
        """What decides the rows, as plain JSON values. Raises UserError when a file or a package is missing."""
        unused = {key for key in self.later if getattr(self, key) is None}
        return self.model_dump(mode="json", exclude=unused)


class Taken(Block):
    """Which rows of a file or a table are taken."""

    keep_where: Conditions | None = None
    """{column: [values]}: only rows whose column holds one of the values, for every column named."""
    drop_where: Conditions | None = None
    """{column: [values]}: no row whose column holds one of the values."""


class LocalFiles(Taken):
    """Rows of a JSONL, JSON or Parquet file, or a directory of such files."""

    kind: Literal["local"]
    path: str
    """A .jsonl, .json (one list of objects) or .parquet file, or a directory whose .jsonl, .json and .parquet files are
    read in the order of their names, as one. JSON files may be compressed (.gz, .bz2, .zst, .lz4). Relative to the
    directory where r1 is started."""
    layout: Literal["standard", "concatenated"] = "standard"
    """How JSON files are laid out. standard: as their ending says. concatenated: objects one after another, each over
    any number of lines, as in Math23K."""

    def identity(self) -> dict[str, Any]:
        """As everywhere; the files count by their content, not by their path."""
        identity = super().identity()
        del identity["path"]
        return identity | {"sha256": digest_of(self.path)}


class Published(Taken):
    """Rows of a published data set at one commit."""

    config: str | None = None
    """Configuration (subset) of the data set, such as main; may be left out where there is only one."""
    split: str
    """Split of the data set, such as train."""
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    """Commit of the data set, 40 hexadecimal digits (on its page under Files, History): a branch or a tag can move, and
    the same recipe must mean the same rows."""


class HubRows(Published):
    """Rows of a data set on the Hugging Face hub, or on the mirror that HF_ENDPOINT names."""

    kind: Literal["hub"]
    dataset: str = Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$")
    """Hub id, such as AI-MO/NuminaMath-1.5."""


class ModelScopeRows(Published):
    """Rows of a data set on ModelScope, or on the server that MODELSCOPE_ENDPOINT names. Needs the extra `sources`."""

    kind: Literal["modelscope"]
    dataset: str = Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")
    """ModelScope id, such as modelscope/gsm8k."""


Place = LocalFiles | HubRows | ModelScopeRows
