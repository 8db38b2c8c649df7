"""Finding what was probably meant."""

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(word: str, among: Iterable[str]) -> str:
    """The closest spelling of `word` as "; nearest: x", to be appended to a message; empty when none is close."""
    found = difflib.get_close_matches(word, list(among), n=1)
    return f"; nearest: {found[0]}" if found else ""


def yaml_hint(value: Any) -> str:
    """What YAML made of a value of the wrong type, where that explains the mistake; to be appended to a message."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return " (put text that looks like a number in quotes)"
    if not isinstance(value, str):
        return ""
    if value.lower() in ("yes", "no", "on", "off"):
        return " (write true or false: yes, no, on and off are text)"
    try:
        float(value)
    except ValueError:
        return ""
    return " (a number must not stand in quotes)"
