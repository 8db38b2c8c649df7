"""From a row of a file or a table to a trace: a prompt, what was completed, or why the row is no trace.

A row is wrong when a text is missing, cannot be published, or a condition of the recipe leaves it out: it gets a flaw.
A column is wrong when it is missing or holds another type: a UserError.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tasks.core.sources.mapping import Column, Table, Where, as_text, flaw_of
from tasks.core.sources.rows import Message, Record
from tasks.core.sources.trace_config import HubTraces, LocalTraces, ModelScopeTraces

ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"} | {
    role: role for role in ("system", "user", "assistant")
}
"""Roles as OpenAI's chats and ShareGPT's name them → ours."""
ANSWERS = {"plain": "{}", "answer_tags": "<answer>{}</answer>", "boxed": "\\boxed{{{}}}"}


class Trace(NamedTuple):
    """One trace; `flaw` says why it cannot be used, and the other fields are empty then."""

    prompt: Sequence[Message]
    completion: str
    flaw: str | None = None

    @property
    def question(self) -> str:
        """The last message of the user."""
        return next((message["content"] for message in reversed(self.prompt) if message["role"] == "user"), "")


class TraceTable(Table[Trace]):
    """The columns of one source of traces. `system_prompt` takes the place of a row's own."""

    def __init__(self, source: LocalTraces | HubTraces | ModelScopeTraces, system_prompt: str | None) -> None:
        self.source, self.system_prompt = source, system_prompt
        keys = (
            "messages_column",
            "prompt_column",
            "completion_column",
            "question_column",
            "thought_column",
            "answer_column",
        )
        self.named = {key: Column(getattr(source, key), key) for key in keys if getattr(source, key) is not None}
        super().__init__(source, list(self.named.values()))

    def flawed(self, flaw: str) -> Trace:
        """A row that cannot be used."""
        return Trace((), "", flaw)

    def row(self, record: Record, place: Where) -> Trace:
        """The trace, or why there is none."""
        try:
            if "messages_column" in self.named:
                prompt, completion = split_talk(self._messages("messages_column", record, place))
            elif "prompt_column" in self.named:
                prompt = self._messages("prompt_column", record, place)
                completion = self._text("completion_column", record, place)
            else:
                prompt = [{"role": "user", "content": self._text("question_column", record, place)}]
                completion = self._solution(record, place)
        except _Flaw as flaw:
            return self.flawed(str(flaw))
        if self.system_prompt is not None:
            turns = [message for message in prompt if message["role"] != "system"]
            prompt = [{"role": "system", "content": self.system_prompt}, *turns]
        return checked(Trace(prompt, completion))

    def _messages(self, key: str, record: Record, place: Where) -> list[Message]:
        """The messages in a column. Raises _Flaw where there is none, or one whose role or content is not known."""
        column = self.named[key]
        value = column.value(record, place)
        if isinstance(value, str) and key == "prompt_column":
            return [{"role": "user", "content": value}]
        if value is None or value == []:
            raise _Flaw("no messages")
        if not isinstance(value, list):
            text = ", nor text" if key == "prompt_column" else ""
            raise column.wrong(value, place, f"not a list of messages{text}: name the column that holds them")
        return [_message(one, column, place) for one in value]

    def _text(self, key: str, record: Record, place: Where) -> str:
        """The text in a column. Raises _Flaw where it is missing."""
        value = as_text(self.named[key].value(record, place), self.named[key], place)
        if value is None:
            raise _Flaw(f"{key} is missing")
        return value

    def _solution(self, record: Record, place: Where) -> str:
        """Thought and answer as one completion."""
        before = ""
        answer = self._text("answer_column", record, place)
        if self.source.answer_after is not None:
            before, mark, answer = answer.rpartition(self.source.answer_after)
            if not mark:
                raise _Flaw(f"no {self.source.answer_after!r} in answer_column")
        if not answer.strip():
            raise _Flaw("answer_column is blank")
        written = ANSWERS[self.source.write_answer].format(answer.strip())
        if self.source.thought_column is None:
            return written
        is_split = self.source.answer_after is not None and self.source.thought_column == self.source.answer_column
        thought = before if is_split else self._text("thought_column", record, place)
        if not thought.strip():
            raise _Flaw("thought_column is blank")
        return f"<think>\n{thought.strip()}\n</think>\n\n{written}"


class _Flaw(Exception):
    """Why the row is no trace."""


def split_talk(messages: Sequence[Message]) -> tuple[list[Message], str]:
    """(what stands before the last message of the assistant, that message's text). Raises _Flaw when there is none."""
    last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=None)
    if last is None:
        raise _Flaw("no message of the assistant")
    return list(messages[:last]), messages[last]["content"]


def checked(trace: Trace) -> Trace:
    """The trace, or the flaw of one that has no question or no completion, or texts that cannot be published."""
    if not trace.question.strip():
        return Trace((), "", "no question: no message of the user before the completion, or a blank one")
    if not trace.completion.strip():
        return Trace((), "", "the completion is blank")
    for name, text in (("completion", trace.completion), *((one["role"], one["content"]) for one in trace.prompt)):
        if flaw := flaw_of(text):
            return Trace((), "", f"{name} {flaw}")
    return trace


def _message(value: Any, column: Column, place: Where) -> Message:
    if not isinstance(value, dict):
        raise column.wrong(value, place, "not a message, an object with role and content or from and value,")
    names = next((pair for pair in (("role", "content"), ("from", "value")) if set(pair) <= value.keys()), None)
    if names is None:
        keys = ", ".join(map(str, value)) or "none"
        raise column.wrong(value, place, f"a message without role and content, or from and value; it has {keys},")
    role, content = value[names[0]], value[names[1]]
    if role not in ROLES:
        raise _Flaw(f"a message of {role!r:.40}, who is neither system, user nor assistant")
    if not isinstance(content, str):
        raise _Flaw(f"a message of {role} whose content is {type(content).__name__}, not text")
    return {"role": ROLES[role], "content": content}
