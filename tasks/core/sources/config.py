"""Where problems come from: the `source` of a recipe, one class for each `kind`.

`places` says what identity a source has and how columns are named.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.core.errors import UserError
from tasks.core.sources.places import Block, HubRows, LocalFiles, ModelScopeRows
from tasks.core.teachers.prompts import system_prompt_text

PromptStyle = Literal["tokens", "english", "chinese", "tinyzero", "mini_r1", "datawhale"]


class _Columns(Block):
    """How a row of a file or a table becomes a problem."""

    later: ClassVar[frozenset[str]] = frozenset({"task", "numbers_column", "target_column", "prompt", "solvable"})

    task: Literal["countdown"] | None = None
    """countdown for a table of Countdown problems; mathematics when left out."""
    question_column: str | None = None
    """Column with the question's text. Not for Countdown."""
    answer_column: str | None = None
    """Column with the gold answer, text or a number. Not for Countdown."""
    numbers_column: str | None = None
    """Countdown: column with the list of numbers."""
    target_column: str | None = None
    """Countdown: column with the target."""
    prompt: PromptStyle | None = None
    """Countdown: how the problem is put, as in `kind: countdown`."""
    solvable: Literal["check"] | None = None
    """Countdown: check drops rows that no expression solves; some milliseconds each with 4 numbers, a second with 6."""
    topic_column: str | None = None
    """Column with the question's topic or kind, kept as `topic`; text or a number."""
    answer_after: str | None = Field(default=None, min_length=1)
    """The gold is what follows the last occurrence of this mark ("####" for GSM8K), and missing in a row without it;
    the whole text when left out."""
    answer_format: Literal["text", "math23k"] = "text"
    """How the gold is written. text: as mathematics is. math23k: `5((7)/(10))` is the mixed number 5 7/10, `((2)/(3))`
    the fraction 2/3, and a percentage is its value: `25%` becomes 0.25, so 25%, 0.25 and 1/4 are right answers and a
    bare 25 is not."""
    system_prompt: str | None = None
    """A system message before the question: text, or r1_english, r1_chinese, r1_zero_english or r1_zero_chinese."""

    @field_validator("system_prompt")
    @classmethod
    def _known_prompt(cls, text: str | None) -> str | None:
        return system_prompt_text(text)

    @model_validator(mode="after")
    def _columns_of_task(self) -> Self:
        of_math: tuple[str, ...] = ("question_column", "answer_column")
        of_countdown: tuple[str, ...] = ("numbers_column", "target_column", "prompt")
        needed, foreign = (of_countdown, of_math) if self.task == "countdown" else (of_math, of_countdown)
        foreign += ("system_prompt", "topic_column", "answer_after") if self.task == "countdown" else ("solvable",)
        what = "task is 'countdown'" if self.task == "countdown" else "without `task: countdown`"
        if missing := [key for key in needed if getattr(self, key) is None]:
            raise ValueError(f"{' and '.join(missing)} missing: {what} a source needs {', '.join(needed)}")
        if given := [key for key in foreign if getattr(self, key) is not None]:
            raise ValueError(f"{' and '.join(given)} given, but {what}: leave it out")
        return self


class LocalSource(_Columns, LocalFiles):
    """Problems from a JSONL, JSON or Parquet file, or a directory of such files."""


class HubSource(_Columns, HubRows):
    """Problems from a data set on the Hugging Face hub, or on the mirror that HF_ENDPOINT names."""


class ModelScopeSource(_Columns, ModelScopeRows):
    """Problems from a data set on ModelScope, or on the server that MODELSCOPE_ENDPOINT names.

    Needs the extra `sources`."""


class CountdownSource(Block):
    """Problems from the built-in generator, solvable by construction and unique as canonical problems."""

    kind: Literal["countdown"]
    num_numbers: tuple[Annotated[int, Field(ge=2)], ...] = Field(min_length=1)
    """How many numbers a problem has; several counts are drawn with equal chance. Countdown-Tasks-3to4: [3, 4]."""
    max_number: int = Field(ge=1)
    """Numbers are uniform in 1 to this. Countdown-Tasks-3to4: 99."""
    max_target: int = Field(ge=1)
    """Targets lie in 1 to this. Countdown-Tasks-3to4: 99."""
    operators: str = Field(pattern=r"^[-+*/]+$")
    """The operators a solution may need, one to four of + - * /."""
    prompt: PromptStyle
    """How the problem is put: single tokens for the scratch model, or natural language with think and answer tags;
    tasks/core/countdown/prompts.py explains each."""


class ReasoningGymSource(Block):
    """Problems from one of reasoning-gym's generators, no question twice. Needs the extra `sources`."""

    kind: Literal["reasoning_gym"]
    dataset: str = Field(pattern=r"^\w+$")
    """reasoning-gym's name, such as leg_counting."""
    options: dict[str, Any] = Field(default={})
    """reasoning-gym's own options of this data set, such as {min_animals: 2}, without seed and size."""
    system_prompt: str | None = None
    """A system message before the question. The answer is looked for in the last <answer> of a completion, so the
    model must be told to put it there."""

    @model_validator(mode="after")
    def _check_options(self) -> "ReasoningGymSource":
        if taken := sorted({"seed", "size"} & set(self.options)):
            raise ValueError(f"options holds {' and '.join(taken)}, which num_train, num_eval and seed decide")
        return self

    def identity(self) -> dict[str, Any]:
        """As everywhere, and the version of reasoning-gym, which decides the problems."""
        try:
            return self.model_dump(mode="json") | {"version": version("reasoning_gym")}
        except PackageNotFoundError as error:
            raise missing_extra("kind: reasoning_gym", "reasoning-gym") from error


PlainSource = Annotated[
    LocalSource | HubSource | ModelScopeSource | CountdownSource | ReasoningGymSource, Field(discriminator="kind")
]
FILE_KINDS = (LocalSource, HubSource, ModelScopeSource)
GENERATOR_KINDS = (CountdownSource, ReasoningGymSource)


class Part(BaseModel):
    """One source of a mixture."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    source: PlainSource
    """Any source but a mixture."""
    weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """This source's share of num_train and of num_eval, relative to the other weights; all sources have one or none
    has. Without weights all rows of all sources are taken, or an even draw from all of them together."""
    seed: int | None = Field(default=None, ge=0)
    """Seeds this source's generator or its draw of rows; the stage's seed when left out."""


class MixtureSource(BaseModel):
    """Several sources in one set of problems. A problem that stands in several counts once, for the first of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    kind: Literal["mixture"]
    sources: dict[Annotated[str, Field(pattern=r"^[\w./-]+$")], Part] = Field(min_length=1)
    """The sources by name, in order; the name is kept with each problem, as `source`."""

    @model_validator(mode="after")
    def _check_weights(self) -> "MixtureSource":
        bare = [name for name, part in self.sources.items() if part.weight is None]
        if bare and len(bare) < len(self.sources):
            raise ValueError(f"{', '.join(bare)} without weight: give every source a weight, or none")
        generators = [name for name in bare if isinstance(self.sources[name].source, GENERATOR_KINDS)]
        if generators:
            raise ValueError(f"{', '.join(generators)} without weight, but a generator has no end: give weights")
        return self

    def identity(self) -> dict[str, Any]:
        """The sources' identities as a list of pairs: their order decides the order of rows."""
        parts = [
            [name, {"weight": part.weight, "seed": part.seed, "source": part.source.identity()}]
            for name, part in self.sources.items()
        ]
        return {"kind": self.kind, "sources": parts}


Source = Annotated[
    LocalSource | HubSource | ModelScopeSource | CountdownSource | ReasoningGymSource | MixtureSource,
    Field(discriminator="kind"),
]


def missing_extra(what: str, package: str) -> UserError:
    """The error for a source whose optional package is not installed."""
    return UserError(f'{what} needs the package {package}, which is not installed: pip install "r1flow[sources]"')
