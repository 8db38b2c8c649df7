"""The ledger of nights: order without a clock, two writers, kill -9, damaged files, secrets."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.store.nights import FOLDER, Night, Verdict, append_night, next_number, read_nights

WRITER = """
import sys
from pathlib import Path
from tasks.core.store.nights import Night, append_night
store, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for i in range(count):
    night = Night(recipe=name, stage="after", metric="accuracy", target={}, verdict="pass", reason=str(i),
                  started_at="", ended_at="")
    print(append_night(store, night).number, flush=True)
"""


def make_night(**fields: object) -> Night:
    given: dict[str, object] = {
        "recipe": "quickstart",
        "stage": "after",
        "metric": "accuracy",
        "target": {"value": 0.5},
        "verdict": Verdict.PASSED,
        "reason": "",
        "started_at": "2026-11-21T01:00:00+00:00",
        "ended_at": "2026-11-21T02:00:00+00:00",
    }
    return Night.model_validate(given | fields)


def _writer(store: Path, name: str, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(store), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_append_gives_numbers_from_one_and_read_gives_back_what_was_written(tmp_path: Path) -> None:
    assert next_number(tmp_path) == 1 and read_nights(tmp_path) == ([], [])
    written = [append_night(tmp_path, make_night(reason=reason)) for reason in ("a", "b")]
    assert [night.number for night in written] == [1, 2] and next_number(tmp_path) == 3
    assert read_nights(tmp_path) == (written, [])


def test_order_is_that_of_writing_when_the_clock_goes_backwards(tmp_path: Path) -> None:
    for ended_at in ("2026-11-21T02:00:00+00:00", "2019-01-01T00:00:00+00:00"):
        append_night(tmp_path, make_night(ended_at=ended_at))
    nights, _ = read_nights(tmp_path)
    assert [night.ended_at[:4] for night in nights] == ["2026", "2019"]


def test_two_writers_at_once_lose_no_night_and_share_no_number(tmp_path: Path) -> None:
    writers = [_writer(tmp_path, name, 40) for name in ("one", "two")]
    numbers = [int(number) for writer in writers for number in writer.communicate(timeout=60)[0].split()]
    assert sorted(numbers) == list(range(1, 81))
    nights, notes = read_nights(tmp_path)
    assert notes == []
    for name in ("one", "two"):
        assert [night.reason for night in nights if night.recipe == name] == [str(i) for i in range(40)]


def test_writer_killed_leaves_only_whole_nights_and_the_next_one_goes_on(tmp_path: Path) -> None:
    writer = _writer(tmp_path, "one", 1_000_000)
    assert writer.stdout is not None
    for _ in range(20):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    nights, notes = read_nights(tmp_path)
    assert len(nights) >= 20 and notes == []
    assert append_night(tmp_path, make_night()).number == len(nights) + 1


@pytest.mark.parametrize("damage", [b"", b"{", b'{"schema": 1, "number"', b"\x00\xff", b"[]", b'{"schema": 2}'])
def test_damaged_night_is_named_and_left_out_and_its_number_stays_taken(tmp_path: Path, damage: bytes) -> None:
    for reason in "abc":
        append_night(tmp_path, make_night(reason=reason))
    (tmp_path / FOLDER / "000002.json").write_bytes(damage)
    nights, (note,) = read_nights(tmp_path)
    assert [night.reason for night in nights] == ["a", "c"]
    assert "000002.json cannot be read" in note
    assert append_night(tmp_path, make_night()).number == 4


def test_night_under_another_number_is_named_and_left_out(tmp_path: Path) -> None:
    append_night(tmp_path, make_night())
    (tmp_path / FOLDER / "000001.json").rename(tmp_path / FOLDER / "000007.json")
    nights, (note,) = read_nights(tmp_path)
    assert nights == [] and "says that it is night 1" in note


def test_secret_in_an_override_is_not_written(tmp_path: Path) -> None:
    append_night(tmp_path, make_night(overrides=["traces.api_key=sk-abcdefghijklmnopqrstuvwxyz"]))
    assert "sk-abc" not in (tmp_path / FOLDER / "000001.json").read_text()


def test_night_is_never_written_over(tmp_path: Path) -> None:
    """A file that appears between the look for a free number and the link keeps its place."""
    append_night(tmp_path, make_night(reason="first"))
    real_link, others = os.link, []

    def link_late(source: str, destination: Path) -> None:
        if not others:
            others.append(destination)
            destination.write_text(json.dumps(make_night(reason="theirs").model_dump(by_alias=True) | {"number": 2}))
        real_link(source, destination)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", link_late)
        assert append_night(tmp_path, make_night(reason="ours")).number == 3
    assert [night.reason for night in read_nights(tmp_path)[0]] == ["first", "theirs", "ours"]
