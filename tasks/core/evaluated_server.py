"""The OpenAI-compatible server whose model is evaluated: the block `server` of stage evaluate. Plain data."""

from typing import Annotated

from pydantic import Field

from tasks.core.stage import StageConfig, operational
from tasks.core.teachers.config import OpenAITeacher


class EvaluatedServer(StageConfig):
    """Which model, and how to ask for it. Only `model` and `revision` say what is measured; the rest is operational."""

    model: str
    """The name under which the server serves the model."""
    revision: str | None = None
    """Which weights it serves, in your words ("2025-01-20", a commit): another one is another evaluation."""
    base_url: str = Field(pattern=r"^https?://\S+$", json_schema_extra={"operational": True})
    """Where the server is, with the version part: http://localhost:8000/v1."""
    api_key_env: str = operational("OPENAI_API_KEY")
    """The environment variable that holds the key; the key itself never stands in a recipe or a record."""
    max_concurrent: Annotated[int, Field(ge=1)] = operational(64)
    """Most requests in flight."""
    timeout_s: Annotated[int, Field(ge=1)] = operational(600)
    """Longest wait for one completion, in seconds."""
    max_retries: Annotated[int, Field(ge=0)] = operational(6)
    """Retries of one request, with growing pauses; then the server counts as down, or the request as bad."""
    patience_s: Annotated[float, Field(ge=0)] = operational(300.0)
    """How long the server may be down before the stage ends, to be tried again later; what is finished is kept."""

    def as_teacher(self, *, temperature: float, top_p: float, max_new_tokens: int) -> OpenAITeacher:
        """The same server as the client of the teachers knows it."""
        return OpenAITeacher(
            kind="openai", temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, **self.model_dump()
        )
