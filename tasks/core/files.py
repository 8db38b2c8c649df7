"""JSON files that are either whole or absent."""

import json
import os
import socket
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write `value` so that a reader, or a kill -9, sees the old file or the new one and nothing between.

    `durable`: also when the power fails; it costs an fsync, some milliseconds.
    """
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n", durable=durable)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write `text` through a temporary file in the same directory, fsync if `durable`, and rename."""
    writer = f"{socket.gethostname()}-{os.getpid()}"  # shares on other nodes may have the same pid
    partial = path.with_name(f".{path.name}.{writer}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises OSError when it is missing and json.JSONDecodeError when it is damaged."""
    return json.loads(path.read_text(encoding="utf-8"))
