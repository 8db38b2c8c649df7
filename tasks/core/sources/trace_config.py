"""Where published traces come from: the `source` of prepare_traces, one class for each `kind`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks.core.sources.places import Block, HubRows, LocalFiles, ModelScopeRows

WAYS = (("messages_column",), ("prompt_column", "completion_column"), ("question_column", "answer_column"))
"""The columns that make a trace: one of these ways."""


class _TraceColumns(Block):
    """How a row becomes a trace: by `messages_column`, by `prompt_column` and `completion_column`, or by
    `question_column`, `thought_column` and `answer_column`."""

    messages_column: str | None = None
    """Column with the whole talk, a list of {role, content} or of ShareGPT's {from, value}: the last message of the
    assistant is the completion, what stands before it the prompt."""
    prompt_column: str | None = None
    """Column with the prompt: text, which is the user's message, or a list of messages."""
    completion_column: str | None = None
    """Column with the completion, text."""
    question_column: str | None = None
    """Column with the question, text."""
    thought_column: str | None = None
    """Column with the thought before the answer, text; no thought when left out."""
    answer_column: str | None = None
    """Column with what follows the thought, text or a number."""
    answer_after: str | None = Field(default=None, min_length=1)
    """The answer is what follows the last occurrence of this mark in answer_column, and missing in a row without it; a
    thought_column of the same name is what stands before it ("####" for GSM8K's own solutions)."""
    write_answer: Literal["plain", "answer_tags", "boxed"] = "plain"
    """How the answer is written below the thought: as it is, between <answer> and </answer>, or in \\boxed{}."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [way for way in WAYS if any(getattr(self, key) is not None for key in way)]
        ways = "; or ".join(" and ".join(way) for way in WAYS)
        if len(given) != 1 or any(getattr(self, key) is None for key in given[0]):
            raise ValueError(f"a source of traces needs columns in one of these ways: {ways}, perhaps thought_column")
        rest = {"thought_column": None, "answer_after": None, "write_answer": "plain"}
        if given[0] != WAYS[-1] and (foreign := [key for key, none in rest.items() if getattr(self, key) != none]):
            raise ValueError(f"{', '.join(foreign)} given without question_column and answer_column: leave it out")
        return self


class LocalTraces(_TraceColumns, LocalFiles):
    """Traces from a JSONL, JSON or Parquet file, or a directory of such files."""


class HubTraces(_TraceColumns, HubRows):
    """Traces from a data set on the Hugging Face hub, or on the mirror that HF_ENDPOINT names."""


class ModelScopeTraces(_TraceColumns, ModelScopeRows):
    """Traces from a data set on ModelScope, or on the server that MODELSCOPE_ENDPOINT names.

    Needs the extra `sources`."""


TraceSource = Annotated[LocalTraces | HubTraces | ModelScopeTraces, Field(discriminator="kind")]
