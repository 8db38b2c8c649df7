"""lighteval's own judge of programs (LiveCodeBench), run apart from the evaluation.

`python -m tasks.core.harness.code_judge NUM_WORKERS` reads a JSON line for each problem from standard input and writes
one with the results of its programs. lighteval runs every program in a process of its own, with a time limit for each
test and with the most destructive calls taken away. That is no sandbox, as its docstring says. So the process gets
nothing that is worth stealing: an empty environment, a temporary directory, 4 GB of address space. Where the kernel
lets an ordinary user have namespaces it is fenced in as the programs of the reward `code` are (rewards/sandbox.py says
what that keeps out): no network, and nothing of the user's can be written. Elsewhere it reaches both. Evaluate models
that you do not trust in a container or a virtual machine.
"""

import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tasks.core.answer import final_part
from tasks.core.rewards.sandbox import has_namespaces
from tasks.core.rewards.sandbox_child import run_fenced_in
from tasks.core.verdict import Judgement, Verdict

TIER = "lighteval_code"
TIMEOUT_S = 6
"""For one test, as in LiveCodeBench."""
MEMORY_BYTES = 4 * 1024**3
ROOM_MB = 64
"""Of files that may be written, in memory."""
SHARED_MEMORY = "/dev/shm"
"""Where multiprocessing, with which lighteval runs the programs, has its locks."""
INSIDE = "--inside"
PROBLEMS_AT_ONCE = 8
"""Their tests are in memory together; some problems have 10 MB of them."""
OUT_OF_TIME = (-3, -1)
"""lighteval's codes for a test that ran out of time, and for programs that had to be killed."""

Tests = Callable[[str], dict[str, Any]]


def judge_programs(
    problem_ids: Sequence[str], texts: Sequence[str], truncated: Sequence[bool], tests: Tests, num_workers: int
) -> list[Judgement]:
    """A judgement for each text: its last fenced block must pass every test of its problem.

    `tests(problem_id)` gives {"inputs", "outputs", "fn_name"}. The texts of a problem lie together.
    """
    from lighteval.tasks.tasks.lcb.codegen_metrics import extract_code

    if not has_namespaces():
        print("warning: no namespaces here, so programs can use the network and write files", flush=True)
    programs = [extract_code(final_part(text)) for text in texts]
    judgements = []
    asked = zip(problem_ids, programs, truncated, strict=True)
    groups = [(problem_id, list(group)) for problem_id, group in itertools.groupby(asked, key=lambda one: one[0])]
    for start in range(0, len(groups), PROBLEMS_AT_ONCE):
        some = groups[start : start + PROBLEMS_AT_ONCE]
        lines = [{"tests": tests(name), "programs": [program for _, program, _ in group]} for name, group in some]
        for (_, group), results in zip(some, _run(lines, num_workers), strict=True):
            pairs = zip(group, results, strict=True)
            judgements += [_judgement(program, cut, result) for (_, program, cut), result in pairs]
    return judgements


def _judgement(program: str, is_cut: bool, result: list[int | bool]) -> Judgement:
    if not program:
        return Judgement(Verdict.TRUNCATED if is_cut else Verdict.NO_ANSWER, TIER, None, "no fenced program")
    if all(passed > 0 for passed in result):
        return Judgement(Verdict.CORRECT, TIER, program)
    verdict = Verdict.TIMEOUT if result[-1] in OUT_OF_TIME else Verdict.WRONG
    return Judgement(verdict, TIER, program, f"test {len(result)} fails")


def _run(problems: list[dict[str, Any]], num_workers: int) -> Iterator[list[list[int | bool]]]:
    """Each problem's results, program by program."""
    given = "".join(json.dumps(problem) + "\n" for problem in problems)
    with tempfile.TemporaryDirectory(prefix="r1-code-") as home, tempfile.TemporaryFile("w+") as log:
        path = os.pathsep.join(place for place in sys.path if place)
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(num_workers)],
            input=given,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=home,
            env={"PYTHONPATH": path, "LANG": "C.UTF-8", "HOME": home, "TMPDIR": home, "PATH": os.defpath},
            start_new_session=True,
        )
        if done.returncode != 0:
            log.seek(0)
            said = log.read()[-2000:]
            raise RuntimeError(f"lighteval's judge of programs ended with status {done.returncode}: {said}")
    return (json.loads(line) for line in done.stdout.splitlines())


def main() -> None:
    """Judge what stands on standard input, behind a fence where there is one."""
    if INSIDE in sys.argv:
        _judge_here(num_workers=int(sys.argv[1]))
        return
    inside = [sys.executable, "-m", "tasks.core.harness.code_judge", sys.argv[1], INSIDE]
    rooms = {os.getcwd(): ROOM_MB, SHARED_MEMORY: ROOM_MB}
    sys.exit(run_fenced_in(rooms, lambda is_isolated: os.execv(sys.executable, inside)))


def _judge_here(num_workers: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    from lighteval.tasks.tasks.lcb.codegen_metrics import evaluate_generations

    problems = [json.loads(line) for line in sys.stdin]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # lighteval prints, and so may programs, past the capture of sys.stdout
    samples = [{"input_output": json.dumps(problem["tests"])} for problem in problems]
    results = evaluate_generations(samples, [problem["programs"] for problem in problems], num_workers, TIMEOUT_S)
    with out:
        out.writelines(json.dumps(results[index], default=bool) + "\n" for index in range(len(problems)))


if __name__ == "__main__":
    main()
