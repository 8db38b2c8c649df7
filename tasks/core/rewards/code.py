"""code: the share of a problem's tests that the answer's program passes, run in a sandbox on this machine.

Range: 0 to 1, None for rows of another task and for tests that cannot be read. Columns: `task` ("code") and `answer`,
JSON: {"tests": [{"input": standard input, "output": standard output}, …]}. For: programming problems; optional, and no
data source of ours makes such rows yet. Source: DeepSeek-R1 (arXiv:2501.12948), §2.2.2; `code_reward` and
`binary_code_reward` in open-r1@1416fa0, which need a service, and let a program pass that prints only the first lines.

The program is the last closed ```python block behind the thought. `sandbox.py` says what it is kept from doing, and
what not. Gamed by printing the outputs of tests that the prompt shows, and by constant answers where outputs are few:
`scoring: all` leaves less room for that than `share`.
"""

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

from tasks.core.answer import final_part
from tasks.core.errors import UserError
from tasks.core.rewards.sandbox import Limits, has_namespaces, run_program
from tasks.core.rewards.text import text_of

_FENCE = "```python\n"


class Case(NamedTuple):
    """What the program reads and what it should print."""

    given: str
    wanted: str


def make(
    *,
    scoring: Literal["share", "all"] = "share",
    isolation: Literal["if_possible", "required"] = "if_possible",
    num_workers: int = 2,
    timeout_s: float = 5.0,
    memory_gb: float = 1.0,
) -> Any:
    """Reward: the share of tests passed, or with `scoring: all` 1.0 only if all are.

    `num_workers` programs run at once, each test for at most `timeout_s` of wall-clock in at most `memory_gb`; a
    program that ran out of time is not run again. `isolation: required` refuses to run anything where the machine does
    not let us shut off the network and the file system, `if_possible` warns of it.
    """
    limits = Limits(timeout_s, memory_gb)

    def code(completions: list[Any], answer: list[str], task: list[str], **columns: Any) -> list[float | None]:
        rows = [(read_tests(gold) if kind == "code" else None) for gold, kind in zip(answer, task, strict=True)]
        if any(rows):
            _check_isolation(isolation)
        with ThreadPoolExecutor(num_workers) as pool:
            return list(pool.map(lambda tests, one: _score(tests, text_of(one), limits, scoring), rows, completions))

    return code


def read_tests(gold: str) -> list[Case] | None:
    """The tests in a row's `answer`; None unless there is one at least, and each is of the form above."""
    try:
        tests = [Case(one["input"], one["output"]) for one in json.loads(gold)["tests"]]
    except (ValueError, TypeError, KeyError):
        return None
    return tests if tests and all(isinstance(text, str) for test in tests for text in test) else None


def extract_program(completion: str) -> str | None:
    """The last closed ```python block of the final part, or None."""
    text, program, position = final_part(completion), None, 0
    while (opening := text.find(_FENCE, position)) >= 0:
        closing = text.find("```", opening + len(_FENCE))
        if closing < 0:
            break
        program, position = text[opening + len(_FENCE) : closing], closing + 3
    return program


def _check_isolation(isolation: str) -> None:
    if has_namespaces():
        return
    if isolation == "required":
        raise UserError(
            "rewards.code.isolation is required, but this machine gives us no namespaces, so programs could use the "
            "network and write files: allow user namespaces here, or set isolation: if_possible to run them anyway."
        )
    warnings.warn("rewards.code: without namespaces, programs can use the network and write files here", stacklevel=2)


def _score(tests: list[Case] | None, completion: str, limits: Limits, scoring: str) -> float | None:
    if tests is None:
        return None
    if (program := extract_program(completion)) is None:
        return 0.0
    num_passed = 0
    for test in tests:
        output, is_timeout = run_program(program, test.given, limits)
        if output is not None and _lines(output) == _lines(test.wanted):
            num_passed += 1
        elif is_timeout or scoring == "all":
            break
    return float(num_passed == len(tests)) if scoring == "all" else num_passed / len(tests)


def _lines(text: str) -> list[str]:
    """Lines without the blanks at their ends, and without blank lines around them."""
    return [line.strip() for line in text.strip().split("\n")]
