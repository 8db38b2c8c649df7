"""How a chat template shows a prompt to the model, and what of the promised is missing.

`render` needs jinja2 alone: it follows transformers' `render_jinja_template` (5.23), so that a login node can tell. The
probe gives the judging functions what the tokenizer itself renders.
"""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.core.files import read_json
from tasks.core.preflight.finding import Finding
from tasks.core.rewards import REWARDS
from tasks.core.rollouts import THOUGHT_REWARDS

THINK = "<think>"

Messages = Sequence[Mapping[str, Any]]


def render(checkpoint: Path, messages: Messages) -> str | None:
    """The prompt as the template in `checkpoint` shows it; None without a template, or where it cannot be rendered."""
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    settings = _settings(checkpoint)
    template = _template(checkpoint, settings)
    if template is None:
        return None

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals |= {
        "raise_exception": refuse,
        "strftime_now": lambda form: datetime.now().strftime(form),  # local, as transformers has it
    }
    names = {name: _token(settings.get(name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    try:
        return environment.from_string(template).render(messages=list(messages), add_generation_prompt=True, **names)
    except (TemplateError, TypeError, ValueError, AttributeError):  # a template that wants what only transformers has
        return None


def judge_text(rendered: str, messages: Messages, rewards: Mapping[str, Any]) -> Iterator[Finding]:
    """What the rendered prompt lacks, and a thought_is_open that does not fit it."""
    for message in messages:
        if message["content"].strip() not in rendered:
            role = message["role"]
            yield Finding(
                "refuse" if role == "user" else "warn",
                f"the chat template drops the {role} message, so the model never reads it: "
                + (
                    "put it into the user's message, or set chat_template in fetch_model."
                    if role == "system"
                    else "set chat_template in fetch_model."
                ),
            )
    is_open = ends_in_thought(rendered)
    for name, parameters in rewards.items():
        if name not in REWARDS or "thought_is_open" not in inspect.signature(REWARDS[name]).parameters:
            continue
        said = isinstance(parameters, Mapping) and bool(parameters.get("thought_is_open", False))
        if said != is_open:
            ends = "ends" if is_open else "does not end"
            yield Finding(
                "refuse" if name in THOUGHT_REWARDS else "warn",  # the training refuses those itself, on the GPU
                f"rewards.{name}.thought_is_open is {str(said).lower()}, but the generation prompt {ends} in {THINK}: "
                f"write `{name}: {{weight: ..., thought_is_open: {str(is_open).lower()}}}`.",
            )


def ends_in_thought(rendered: str) -> bool:
    """Whether the generation prompt opens the thought, so that completions begin inside it."""
    return rendered.rstrip().endswith(THINK)


def _settings(checkpoint: Path) -> Mapping[str, Any]:
    path = checkpoint / "tokenizer_config.json"
    return read_json(path) if path.is_file() else {}


def _template(checkpoint: Path, settings: Mapping[str, Any]) -> str | None:
    """transformers writes it beside the tokenizer's config; older checkpoints have it inside."""
    file = checkpoint / "chat_template.jinja"
    template = file.read_text(encoding="utf-8") if file.is_file() else settings.get("chat_template")
    return template if isinstance(template, str) else None


def _token(value: Any) -> str:
    """A special token: its text, or {"content": text}."""
    return str(value.get("content", "")) if isinstance(value, Mapping) else str(value or "")
