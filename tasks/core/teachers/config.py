"""The teachers a recipe can name, told apart by `kind`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from tasks.core.stage import StageConfig, operational


class SolverTeacher(StageConfig):
    """A program that solves Countdown by search and writes the search down. Needs no model and no network."""

    kind: Literal["solver"]
    """The word that picks this teacher."""
    hit_rate: float = Field(gt=0, le=1)
    """Chance that the next try is the right one: a patient trace shows up to 1 / hit_rate tries on average."""
    max_failed_tries: int = Field(ge=0)
    """A patient trace shows at most so many failed tries."""
    guess_rate: float = Field(ge=0, le=1)
    """Share of impatient traces, which answer without having written the right try down."""
    max_failed_before_guess: int = Field(ge=0)
    """An impatient trace shows 0 to this many failed tries, uniformly drawn."""
    error_rate: float = Field(ge=0, le=1)
    """Share of traces that end in a wrong answer, so that verification has something to reject."""
    operators: str
    """The operators the search may use: some of "+-*/". The problems must be solvable with them."""
    max_value: int = Field(ge=1)
    """The search stays in the whole numbers from 0 to this."""

    @field_validator("operators")
    @classmethod
    def _known_operators(cls, operators: str) -> str:
        if not operators or set(operators) - set("+-*/") or len(set(operators)) < len(operators):
            raise ValueError(f"operators is {operators!r}: give one to four different ones of +-*/, for example '+-*'")
        return operators

    @property
    def label(self) -> str:
        """What stands in the column `teacher`."""
        return "solver"


class OpenAITeacher(StageConfig):
    """A model behind an OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, DeepSeek, OpenAI, …"""

    kind: Literal["openai"]
    """The word that picks this teacher."""
    model: str
    """The name under which the endpoint serves the model."""
    temperature: float = Field(ge=0)
    """Sampling temperature; DeepSeek-R1 recommends 0.6."""
    top_p: float = Field(gt=0, le=1)
    """Nucleus sampling mass; DeepSeek-R1 recommends 0.95."""
    max_new_tokens: int = Field(gt=0)
    """Longest completion, in the endpoint's tokens; a trace that reaches it has finish_reason "length"."""
    base_url: str = operational(...)
    """Where the endpoint is, with the version part: "http://localhost:8000/v1"."""
    api_key_env: str = operational("OPENAI_API_KEY")
    """The environment variable that holds the key; the key itself never stands in a recipe or a record."""
    max_concurrent: int = operational(64)
    """Most requests in flight from one worker."""
    timeout_s: int = operational(600)
    """Longest wait for one completion, in seconds."""
    max_retries: int = operational(6)
    """Retries of one request, with growing pauses, before the stage gives up."""

    @field_validator("max_concurrent", "timeout_s")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value < 1:
            raise ValueError(f"{value} is not allowed: give at least 1")
        return value

    @field_validator("base_url")
    @classmethod
    def _http(cls, base_url: str) -> str:
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(
                f"base_url is {base_url!r}: it starts with http:// or https://, as http://localhost:8000/v1"
            )
        return base_url

    @property
    def label(self) -> str:
        """What stands in the column `teacher`."""
        return self.model


Teacher = Annotated[SolverTeacher | OpenAITeacher, Field(discriminator="kind")]
