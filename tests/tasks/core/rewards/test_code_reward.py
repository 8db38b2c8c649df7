"""code: programs are really run, and kept from what they must not do."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.core.rewards import sandbox
from tasks.core.rewards.code import extract_program, read_tests
from tasks.core.rewards.sandbox import Limits, run_program
from tests.tasks.core.rewards.reward_calls import rewards

LIMITS = Limits(timeout_s=10.0, memory_gb=0.5)
needs_namespaces = pytest.mark.skipif(not sandbox.has_namespaces(), reason="this machine gives us no namespaces")
DOUBLES = json.dumps({"tests": [{"input": "1\n", "output": "2"}, {"input": "4\n", "output": "8\n"}]})


def block(program: str) -> str:
    return f"<think>```python\nprint('a draft')\n```</think>Here:\n```python\n{program}\n```\nIt doubles."


def test_code_reward_is_the_share_of_tests_passed() -> None:
    programs = ["print(2 * int(input()))", "print(2)", "print(2", "print('2\\n8')"]
    texts = [*map(block, programs), "no program", block("print(8)")]
    columns = {"task": [*["code"] * 5, "math"], "answer": [DOUBLES] * 6}
    assert rewards({"code": {"weight": 1.0, "timeout_s": 10.0}}, texts, **columns) == [1.0, 0.5, 0.0, 0.0, 0.0, None]
    every = {"code": {"weight": 1.0, "timeout_s": 10.0, "scoring": "all"}}
    assert rewards(every, texts[:2], task=["code"] * 2, answer=[DOUBLES] * 2) == [1.0, 0.0]


def test_code_reward_endless_program_is_run_once() -> None:
    gold = json.dumps({"tests": [{"input": "", "output": ""}] * 50})
    started = time.monotonic()
    spec = {"code": {"weight": 1.0, "timeout_s": 0.5}}
    assert rewards(spec, [block("while True: pass")], task=["code"], answer=[gold]) == [0.0]
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        ("```python\na\n```\n```python\nb\n```", "b\n"),
        ("```python\na\n```\n```python\nb", "a\n"),  # cut off
        ("```python\na\n```\n```cpp\nb\n```", "a\n"),
        ("<think>```python\na\n```</think> done", None),
        ("```\na\n```", None),
    ],
)
def test_extract_program_takes_the_last_closed_block_behind_the_thought(completion: str, program: str | None) -> None:
    assert extract_program(completion) == program


BAD_TESTS = ["[]", "{}", '{"tests": []}', '{"tests": [{"input": 1, "output": "2"}]}', '{"tests": [{"input": ""}]}']


@pytest.mark.parametrize("gold", ["", "4", *BAD_TESTS])
def test_read_tests_anything_else_is_none(gold: str) -> None:
    assert read_tests(gold) is None


def test_run_program_more_than_its_limits_is_a_failure() -> None:
    assert run_program("print(len(input()))", "abc", LIMITS) == ("3\n", False)
    assert run_program("x = bytearray(10**9); print(1)", "", LIMITS) == (None, False)
    assert run_program("print('a' * 10**8)", "", LIMITS) == (None, False)
    assert run_program("import sys; print(1); sys.exit(3)", "", LIMITS) == (None, False)
    assert run_program("import time; time.sleep(60)", "", Limits(0.5, 0.5)) == (None, True)


def test_run_program_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_SECRET", "hunter2")
    output = run_program("import os; print(dict(os.environ), os.path.exists('../in'))", "", LIMITS).output
    assert output and "hunter2" not in output and "HOME" not in output


@needs_namespaces
def test_run_program_can_neither_reach_out_nor_write_nor_stay(tmp_path: Path) -> None:
    program = f"""
import os, socket, time
def tried(what):
    try: what(); print("done")
    except OSError as error: print(type(error).__name__)
tried(lambda: socket.create_connection(("127.0.0.1", 9), 1))
tried(lambda: open({str(tmp_path / "mine")!r}, "w"))
tried(lambda: open("own", "w").write("x"))
tried(lambda: open("own", "wb").write(bytes(20 << 20)))
tried(lambda: os.kill({os.getpid()}, 9))
if os.fork() == 0:
    os.setsid()
    time.sleep(600)
"""
    before = set(sessions())
    assert run_program(program, "", LIMITS).output == "OSError\nOSError\ndone\nOSError\nProcessLookupError\n"
    assert not list(tmp_path.iterdir())
    assert not set(sessions()) - before


def sessions() -> list[str]:
    """Processes of this machine that run a sandboxed program."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"program.py" in words:
            found.append(process)
    return found


def test_code_reward_without_namespaces_warns_or_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.core.rewards.code.has_namespaces", lambda: False)
    columns: dict[str, Any] = {"task": ["code"], "answer": [DOUBLES]}
    with pytest.warns(UserWarning, match="without namespaces"):
        assert rewards({"code": {"weight": 1.0, "timeout_s": 10.0}}, ["no program"], **columns) == [0.0]
    with pytest.raises(UserError, match=r"rewards\.code\.isolation is required, but this machine"):
        rewards({"code": {"weight": 1.0, "isolation": "required"}}, ["no program"], **columns)
