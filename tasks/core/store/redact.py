"""Keep secrets out of what the store keeps for ever: records and run files."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.core.errors import UserError

REDACTED = "[redacted]"
MIN_SECRET_LENGTH = 12

_TOKEN = re.compile(
    r"\b(hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}"
    r"|glpat-[\w-]{16,}|ms-[0-9a-f]{8}-[0-9a-f-]{27}|AKIA[0-9A-Z]{16}|xox[abprs]-[\w-]{10,})"
)
_SECRET_NAME = r"(?:api[_-]?key|access[_-]?key|secret(?:[_-]?key)?|passw(?:or)?d|(?<!eos_)(?<!pad_)(?<!bos_)token)"
_ASSIGNMENT = re.compile(rf"(?i)({_SECRET_NAME}[\"']?\s*[=:]\s*|\bbearer\s+)([^\s\"'$<][^\s\"']{{5,}})")
_LONE_OPTION = re.compile(rf"(?i)^--?[\w.-]*{_SECRET_NAME}$")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]+:)[^/\s@]+(@)")
_SECRET_VARIABLE = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$")


def redact(value: Any) -> Any:
    """A copy of a JSON value in which every string has its secrets replaced by "[redacted]".

    Secrets are: tokens of known shapes (hf_…, sk-…, ghp_…), what follows api_key=, token: or the like, passwords in
    URLs, and the values of this process's environment variables that are named as secrets.
    """
    if isinstance(value, str):
        return _redact_text(value)
    if isinstance(value, Mapping):
        return {key: redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value


def redact_argv(argv: Sequence[str]) -> list[str]:
    """`argv` with its secrets replaced, also where the secret is the word after `--api-key`."""
    after_option = [False, *(bool(_LONE_OPTION.match(word)) for word in argv)]
    return [REDACTED if hide else _redact_text(word) for hide, word in zip(after_option, argv, strict=False)]


def refuse_secrets(identity: Mapping[str, Any]) -> None:
    """Raise UserError, naming the key, when an identity holds a secret: it cannot be redacted without changing it."""
    for path, text in _strings(identity, ""):
        if _TOKEN.search(text) or any(secret in text for secret in _environment_secrets()):
            raise UserError(
                f"{path} holds what looks like a secret. Records keep the whole config for ever: take the secret out "
                "of the recipe and give it in an environment variable (HF_TOKEN, OPENAI_API_KEY)."
            )


def _redact_text(text: str) -> str:
    for secret in _environment_secrets():
        text = text.replace(secret, REDACTED)
    text = _TOKEN.sub(REDACTED, text)
    text = _ASSIGNMENT.sub(rf"\1{REDACTED}", text)
    return _URL_PASSWORD.sub(rf"\1{REDACTED}\2", text)


def _environment_secrets() -> list[str]:
    """Values worth hiding; short ones and paths (SSH_KEY=~/.ssh/id) would blot out innocent text."""
    return [
        value
        for name, value in os.environ.items()
        if _SECRET_VARIABLE.search(name.upper()) and len(value) >= MIN_SECRET_LENGTH and value[0] not in "/~."
    ]


def _strings(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _strings(item, f"{path}[{index}]")
