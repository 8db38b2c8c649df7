"""Tells people of verdicts through Prefect's notification blocks (Slack, e-mail, a webhook of one's own ...)."""

from collections.abc import Sequence
from typing import Any

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.logging import get_run_logger

from tasks.core.errors import UserError
from tasks.core.store.nights import Night


def load_blocks(names: Sequence[str]) -> list[NotificationBlock]:
    """The blocks "type/name" from Prefect's server. Raises UserError when one is not there or tells nobody anything."""
    blocks = []
    for name in names:
        try:
            block: Any = Block.load(name)
        except ValueError as error:
            raise UserError(
                f"notify names {name}, which Prefect's server does not have ({error}): make it in Prefect's UI under "
                "Blocks, and name it type/name, such as slack-webhook/team."
            ) from error
        if not isinstance(block, NotificationBlock):
            raise UserError(f"notify names {name}, a {type(block).__name__}: give a block that notifies.")
        blocks.append(block)
    return blocks


def notify_all(blocks: Sequence[NotificationBlock], nights: Sequence[Night]) -> None:
    """One message with all verdicts to each block; nothing where there is none."""
    if nights:
        worst = min(nights, key=lambda night: ("regressed", "failed", "inconclusive").index(night.verdict))
        subject = f"r1flow: {worst.name} {worst.verdict}"
        _send(blocks, subject, "\n\n".join(_text(night) for night in nights))


def notify_broken(blocks: Sequence[NotificationBlock], error: Exception) -> None:
    """Tell each block that the night ended before its verdicts were written, and why."""
    _send(blocks, "r1flow: the night broke off", str(error).strip() or type(error).__name__)


def _send(blocks: Sequence[NotificationBlock], subject: str, body: str) -> None:
    """A block that fails is only logged: what it was to tell stands in the ledger or the flow's log."""
    for block in blocks:
        try:
            block.notify(body, subject=subject)
        except Exception as error:  # a chat that is away must not turn a night into a failure
            get_run_logger().warning(f"{type(block).__name__} did not take the message: {error}")


def _text(night: Night) -> str:
    lines = [f"{night.name} {night.verdict} (night {night.number}): {night.reason}", *night.changes]
    return "\n".join(lines)
