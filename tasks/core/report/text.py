"""Making any text fit to show: bounded, with no invisible or page-breaking characters, and numbers as people read them.

HTML escaping is not done here: the template engine does it for every value.
"""

import re
from datetime import UTC, datetime
from typing import Any

DASH = "–"
# C0 and C1 controls but tab and newline, and the bidirectional overrides that make text read in another order.
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
MARKS = re.compile(
    r"(\w?[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u20d0-\u20ff]{4})[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u20d0-\u20ff]+"
)


def visible(text: str) -> str:
    """`text` with control characters, bidirectional overrides and lone surrogates written out, stacked accents cut."""
    return MARKS.sub(r"\1", HIDDEN.sub(_spell, text.replace("\r\n", "\n")))


def _spell(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"


def bounded(value: Any, head: int = 4000, tail: int = 2000) -> str:
    """`value` as text, its middle left out (and said so) when it is longer than `head + tail` characters."""
    text = value if isinstance(value, str) else str(value)
    left_out = len(text) - head - tail
    if left_out <= 0:
        return text
    return f"{text[:head]}\n\n[… {left_out:,} characters left out …]\n\n{text[len(text) - tail :]}"


def label(value: Any, length: int = 40) -> str:
    """A short one-line name, for titles and the text inside plots."""
    text = " ".join(visible(str(value)[: 10 * length]).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def percent(value: float | None, digits: int = 1) -> str:
    """0.4123 as "41.2%"."""
    return DASH if value is None else f"{100 * value:.{digits}f}%"


def points(value: float | None) -> str:
    """A difference of shares in percentage points, with its sign: 0.2284 as "+22.8"."""
    return (
        DASH if value is None else f"{100 * value:+.1f}".replace("-", "−").replace("−0.0", "0.0").replace("+0.0", "0.0")
    )


def count(value: Any) -> str:
    """12345 as "12,345"; a number with a fraction keeps one digit of it."""
    if not isinstance(value, int | float):
        return DASH
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def duration(seconds: float | None) -> str:
    """3723 as "1 h 02 min"."""
    if seconds is None:
        return DASH
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(num_bytes: float | None) -> str:
    """1536 as "1.5 kB" (1 kB is 1024 bytes)."""
    if num_bytes is None:
        return DASH
    value, unit = float(num_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def moment(value: Any) -> str:
    """A time, ISO 8601 or seconds since the epoch, as "2025-11-21 10:14 UTC"; anything else as it stands."""
    try:
        when = datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else datetime.fromisoformat(value)
    except (TypeError, ValueError, OverflowError, OSError):
        return DASH if value is None else str(value)
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return f"{when:%Y-%m-%d %H:%M} UTC"
