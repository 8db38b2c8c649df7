"""Why two artifacts differ: the fields of their identities that changed, followed through inputs to the cause."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import UserError
from tasks.core.store.record import DamagedRecord, Record, read_record
from tasks.core.store.store import Store

ABSENT = "(absent)"


@dataclass(frozen=True)
class Change:
    """One field that differs. `chain` names the inputs on the way, e.g. ("model → train_sft",); `key` is dotted."""

    chain: tuple[str, ...]
    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{''.join(f'{link}: ' for link in self.chain)}{self.key}: {self.before} → {self.after}"


def explain(store: Store, before: Record, after: Record) -> list[Change]:
    """The causes of the difference; empty when the identities are equal. A cause met twice is told once.

    An input that changed is explained by its own record; where one of the two records is not in the store any more,
    the change of the fingerprint itself is the answer. Raises UserError for artifacts of different stages.
    """
    if before.stage != after.stage:
        raise UserError(
            f"{before.stage}/{before.fingerprint} and {after.stage}/{after.fingerprint} are of different stages: "
            "give two artifacts of one stage, or two runs."
        )
    return list(_changes(store, before, after, (), set()))


def _changes(
    store: Store, before: Record, after: Record, chain: tuple[str, ...], seen: set[tuple[str, str]]
) -> Iterator[Change]:
    own = [{key: value for key, value in one.identity.items() if key != "inputs"} for one in (before, after)]
    yield from (Change(chain, *change) for change in differences(own[0], own[1]))
    old, new = before.input_fingerprints, after.input_fingerprints
    for name in dict.fromkeys([*old, *new]):
        pair = (old.get(name, ABSENT), new.get(name, ABSENT))
        if pair[0] == pair[1] or pair in seen:
            continue
        seen.add(pair)
        records = [_record(store, fingerprint) for fingerprint in pair]
        if records[0] and records[1] and records[0].stage == records[1].stage:
            yield from _changes(store, records[0], records[1], (*chain, f"{name} → {records[0].stage}"), seen)
        else:
            yield Change(chain, f"inputs.{name}", *(_label(*one) for one in zip(pair, records, strict=True)))


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted path, value before, value after) of every leaf that differs; 1 and 1.0 are equal, true and 1 are not."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from differences(before.get(key, ABSENT), after.get(key, ABSENT), f"{path}.{key}".lstrip("."))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{path}[{index}]")
    elif before != after or isinstance(before, bool) != isinstance(after, bool):
        yield path, before, after


def _record(store: Store, fingerprint: str) -> Record | None:
    for path in store.artifacts():
        if path.name == fingerprint:
            try:
                return read_record(path)
            except DamagedRecord:
                return None
    return None


def _label(fingerprint: str, record: Record | None) -> str:
    if fingerprint == ABSENT:
        return ABSENT
    return f"{record.stage}/{fingerprint}" if record else f"{fingerprint} (no longer in the store)"
