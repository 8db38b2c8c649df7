"""Budget forcing: a least and a most of thinking tokens, whatever samples (s1, arXiv:2501.19393, section 3.1).

Generation goes in rounds. First every row thinks, until it writes `end` or an end-of-text token or has no room left. A
thought that ended with fewer than `min_tokens` loses its end, gets `wait`, and goes on in the next round. One that
reaches `max_tokens` gets `forced_end`. When nobody thinks any more, one last round writes all answers.

Where this departs from s1's own script (README of simplescaling/s1@2f5badc): there a number of ends is ignored, here a
number of tokens decides, and `max_waits` where it is given; there text is fed back, here the tokens, so that nothing a
model wrote is tokenized anew but what shared a token with the end. `wait` and `forced_end` count as tokens of the
completion, `wait` also as thought.

Legend for shapes: N rows (questions times samples), T tokens.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from tasks.core.checkpoint import Checkpoint
from tasks.core.errors import UserError
from tasks.core.files import read_json, write_json
from tasks.core.harness.records import Completion, Thought
from tasks.core.thinking import Thinking


class Extend(Protocol):
    """What an engine must know how to do."""

    def __call__(self, contexts_NT: list[list[int]], limits_N: list[int], stop: str | None) -> list[list[int]]:
        """New tokens for each context: at most its limit, up to and with the first end-of-text token, or the token that
        completes the text `stop`. What an engine writes behind these is cut off here."""


@dataclass
class _Row:
    """One completion as it grows. `state` is "thinking", then "answering", then "done"."""

    prompt_ids: list[int]
    tokens: list[int] = field(default_factory=list)
    num_thinking: int = 0
    num_waits: int = 0
    was_forced_to_end: bool = False
    state: str = "thinking"


class _Written(NamedTuple):
    """One round of a thought: its tokens, those with what ended it, and the state that follows."""

    thought: list[int]
    whole: list[int]
    state: str


class Budget:
    """Forces a budget on the completions of one checkpoint. Raises UserError when it cannot be forced."""

    def __init__(self, thinking: Thinking, checkpoint: Checkpoint, max_new_tokens: int) -> None:
        self.end, self.min_tokens, self.max_tokens = thinking.end, thinking.min_tokens or 0, thinking.max_tokens
        self.tokenizer, self.end_ids = checkpoint.tokenizer, frozenset(checkpoint.end_ids)
        self.max_new_tokens, self.max_waits = max_new_tokens, thinking.max_waits
        self.wait_ids = self._encode(thinking.wait, thinking.wait) if self.min_tokens else []
        self.forced_ids = self._encode(thinking.forced_end or thinking.end, thinking.end)
        if why := thinking.lacks_room(max_new_tokens, len(self.forced_ids)):
            raise UserError(f"evaluate: {why}: raise max_new_tokens or lower the budget.")

    def complete(self, prompts_NT: Sequence[Sequence[int]], extend: Extend) -> tuple[list[list[int]], list[Thought]]:
        """The completion of each prompt under the budget, and what was forced on its thought."""
        rows = [_Row(list(prompt_ids)) for prompt_ids in prompts_NT]
        while thinking := [row for row in rows if row.state == "thinking"]:
            for row, new in zip(thinking, self._extend(thinking, self._room_to_think, extend, self.end), strict=True):
                self._take_thought(row, new)
        answering = [row for row in rows if row.state == "answering"]
        for row, new in zip(answering, self._extend(answering, self.max_new_tokens, extend, None), strict=True):
            row.tokens += new
        return [row.tokens for row in rows], [
            Thought(row.num_thinking, row.num_waits, row.was_forced_to_end) for row in rows
        ]

    @property
    def _room_to_think(self) -> int:
        return self.max_tokens or self.max_new_tokens

    def _extend(self, rows: Sequence[_Row], room: int, extend: Extend, stop: str | None) -> list[list[int]]:
        """New tokens of each row, none behind an end-of-text token or beyond `room`."""
        if not rows:
            return []
        limits_N = [room - len(row.tokens) for row in rows]
        new_NT = extend([row.prompt_ids + row.tokens for row in rows], limits_N, stop)
        return [self._until_end_of_text(new[:limit]) for new, limit in zip(new_NT, limits_N, strict=True)]

    def _take_thought(self, row: _Row, new: list[int]) -> None:
        """Add one round of thought to the row, force what is to be forced, and settle what the row does next."""
        assert new, "the engine wrote nothing"
        written = self._read(new)
        row.num_thinking, row.state = len(row.tokens) + len(written.thought), written.state
        may_wait = self.max_waits is None or row.num_waits < self.max_waits
        if row.state != "thinking" and row.num_thinking < self.min_tokens and may_wait:
            row.tokens = (row.tokens + written.thought + self.wait_ids)[: self._room_to_think]
            row.num_thinking, row.num_waits, row.state = len(row.tokens), row.num_waits + 1, "thinking"
        else:
            row.tokens += written.whole
        if row.state == "thinking" and len(row.tokens) >= self._room_to_think:
            self._end_thought(row)
        if row.state == "answering" and len(row.tokens) >= self.max_new_tokens:
            row.state = "done"

    def _end_thought(self, row: _Row) -> None:
        """End a thought that has no room left: by force where there is a most, else the completion ends with it."""
        if self.max_tokens is None:
            row.state = "done"
            return
        head, tail = self._split(row.tokens)
        text = self._decode(tail)
        begun = next((num for num in range(len(self.end) - 1, 0, -1) if text.endswith(self.end[:num])), 0)
        if begun:  # its own end was cut in the middle
            row.tokens = head + self._before(tail, len(text) - begun)
        row.num_thinking, row.tokens = len(row.tokens), row.tokens + self.forced_ids
        row.was_forced_to_end, row.state = True, "answering"

    def _read(self, new: list[int]) -> _Written:
        head, tail = self._split(new)
        if self.end not in self._decode(tail):
            head, tail = [], new
        if (start := self._decode(tail).find(self.end)) >= 0:
            num_whole = bisect_left(range(len(tail)), True, key=lambda num: self.end in self._decode(tail[:num]))
            whole = tail[:num_whole]
            return _Written(head + self._before(whole, start), head + whole, "answering")
        if new[-1] in self.end_ids:
            return _Written(new[:-1], new, "done")
        return _Written(new, new, "thinking")

    def _split(self, tokens: list[int]) -> tuple[list[int], list[int]]:
        """All but the last tokens, and these, which hold any `end` that stands last: decoding all takes its time."""
        start = max(0, len(tokens) - 2 * len(self.end.encode()) - 2)
        return tokens[:start], tokens[start:]

    def _before(self, new: list[int], num_chars: int) -> list[int]:
        """The tokens of the first characters; where a token holds more than these, what it holds of them anew."""
        text, num_kept = self._decode(new), len(new)
        while num_kept and not text[:num_chars].startswith(self._decode(new[:num_kept])):
            num_kept -= 1
        rest = text[len(self._decode(new[:num_kept])) : num_chars]
        return new[:num_kept] + (self.tokenizer.encode(rest, add_special_tokens=False) if rest.strip() else [])

    def _until_end_of_text(self, tokens: list[int]) -> list[int]:
        end = next((place for place, token in enumerate(tokens) if token in self.end_ids), len(tokens) - 1)
        return tokens[: end + 1]

    def _decode(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _encode(self, text: str, needed: str) -> list[int]:
        """Tokens of a text that is forced; UserError when `needed` cannot be read in them."""
        tokens = self.tokenizer.encode(text, add_special_tokens=False)
        if not tokens or needed.strip() not in self._decode(tokens):
            raise UserError(
                f"evaluate: the tokenizer in {self.tokenizer.name_or_path} writes {text!r} as "
                f"{self._decode(tokens)!r}, so it cannot be forced: set thinking.wait, thinking.end and "
                "thinking.forced_end to texts that it knows."
            )
        return list(tokens)


def write_thoughts(directory: Path, thoughts: Mapping[int, Sequence[Thought]]) -> None:
    """Keep the thoughts of one shard, {place of the question: one a sample}, before the shard itself is committed."""
    rows = {str(place): [astuple(thought) for thought in thoughts_S] for place, thoughts_S in thoughts.items()}
    write_json(directory / f"thoughts-{min(thoughts):08d}.json", rows)


def with_thoughts(completions: Sequence[Completion], places: Mapping[str, int], directory: Path) -> list[Completion]:
    """The completions with the thoughts that were kept of all shards; `places`: the question's place by problem_id."""
    rows = {key: row for path in directory.glob("thoughts-*.json") for key, row in read_json(path).items()}
    return [
        replace(one, thought=Thought(*rows[str(places[one.question.problem_id])][one.sample])) for one in completions
    ]
