"""How long a model may think when it is evaluated: the block `thinking` of stage evaluate. Loads nothing heavy."""

from typing import Self

from pydantic import Field, model_validator

from tasks.core.stage import StageConfig


class Thinking(StageConfig):
    """A budget of thought, forced as in s1 (arXiv:2501.19393, section 3.1); tasks/core/harness/budget.py says how."""

    min_tokens: int | None = Field(ge=1)
    """A thought that ends with fewer tokens goes on: its end is taken away, `wait` written instead. null: no least."""
    max_tokens: int | None = Field(ge=1)
    """A thought of so many tokens is ended; what is left of max_new_tokens is for the answer. null: no most."""
    max_waits: int | None = Field(default=None, ge=1)
    """How often a thought is made to go on; null: as often as it takes. s1's tables count so, "Wait" 2x or 4x: give
    min_tokens the value of max_tokens and this the count."""
    wait: str = Field(default="Wait", min_length=1)
    """What is written where a thought ended too early, s1's best of four words."""
    end: str = Field(default="</think>", pattern=r"\S")
    """The text that ends a thought. An end-of-text token in the thought ends it too."""
    forced_end: str | None = None
    """What is written where a thought is ended, `end` in it. null writes `end` alone; a chat template or the habit of a
    model may want more, such as "\\n</think>\\n\\nFinal Answer:"."""

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.min_tokens is None and self.max_tokens is None:
            raise ValueError(
                "thinking.min_tokens and thinking.max_tokens are both null, which forces nothing: give one of them, or "
                "leave `thinking` out"
            )
        if self.min_tokens is not None and self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(
                f"thinking.min_tokens is {self.min_tokens}, over thinking.max_tokens {self.max_tokens}: lower it"
            )
        if self.max_waits is not None and self.min_tokens is None:
            raise ValueError(
                f"thinking.max_waits is {self.max_waits}, but thinking.min_tokens is null, so no thought would wait: "
                "set that to the value of max_tokens, or leave max_waits out"
            )
        return self

    @model_validator(mode="after")
    def _texts_agree(self) -> Self:
        if self.end in self.wait:
            raise ValueError(f"thinking.wait {self.wait!r} holds thinking.end {self.end!r}: choose words that go on")
        if self.forced_end is not None and self.end not in self.forced_end:
            raise ValueError(
                f"thinking.forced_end {self.forced_end!r} does not hold thinking.end {self.end!r}, so no thought would "
                "end: write the end into it, or leave it out"
            )
        return self

    def lacks_room(self, max_new_tokens: int, num_end_tokens: int = 1) -> str:
        """Why max_new_tokens leaves no room, when a forced end takes `num_end_tokens`; empty where there is room."""
        if self.min_tokens is not None and self.min_tokens >= max_new_tokens:
            return f"thinking.min_tokens is {self.min_tokens}, not below max_new_tokens {max_new_tokens}"
        if self.max_tokens is not None and self.max_tokens + num_end_tokens >= max_new_tokens:
            return (
                f"thinking.max_tokens is {self.max_tokens}: with {num_end_tokens} token(s) of the forced end there is "
                f"no room for an answer within max_new_tokens {max_new_tokens}"
            )
        return ""
