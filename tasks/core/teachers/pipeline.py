"""The distilabel pipeline, `ReadRequests >> WriteTraces`: `python -m tasks.core.teachers.pipeline WORK`.

It reads WORK/teacher.json and the requests, and commits the missing shards. distilabel 1.5.3 is kept at arm's length:

- Its cache is off and lies in WORK: one interrupted by a signal did not come back within 100 s on the rerun. What is
  done is what `Shards` says, so each worker commits its own shard and hands distilabel only a receipt.
- It turns an exception in a step into rows of None and goes on. Here the first one goes into WORK/failure.json, and
  `process.TeacherProcess` ends the pipeline.
- It installs signal handlers and starts processes that ignore SIGINT: this module therefore runs in a process group
  of its own, which ends when its stdin does, that is when the stage dies, however it dies.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from distilabel.models.llms.base import LLM
from distilabel.pipeline import Pipeline
from distilabel.steps import GeneratorStep, StepInput
from distilabel.steps.base import StepResources
from distilabel.steps.tasks import Task
from pydantic import TypeAdapter

from tasks.core.errors import UserError
from tasks.core.files import read_json, write_json
from tasks.core.teachers.config import OpenAITeacher, SolverTeacher, Teacher
from tasks.core.teachers.openai_llm import OpenAITeacherLLM
from tasks.core.teachers.shards import Shards
from tasks.core.teachers.solver_llm import SolverLLM

REQUEST_COLUMNS = ["problem_id", "sample", "task", "prompt", "answer", "seed", "shard"]
LLM_COLUMNS = ["finish_reason", "num_tokens", "latency_s", "teacher_erred"]


class ReadRequests(GeneratorStep):
    """Yields the requests of the missing shards, one shard a batch; the first batch has one for each worker.

    distilabel asks for the next batch whenever a worker has finished one, so this keeps every worker busy.
    """

    work: str
    num_workers: int

    @property
    def outputs(self) -> list[str]:
        """The columns of a request."""
        return REQUEST_COLUMNS

    def process(self, offset: int = 0) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        """Yields (rows, whether they are the last)."""
        shards = Shards.open(Path(self.work))
        missing = shards.missing()
        groups = [missing[: self.num_workers], *([shard] for shard in missing[self.num_workers :])]
        for i, group in enumerate(groups):
            yield list(chain.from_iterable(shards.read_requests(group))), i == len(groups) - 1


class WriteTraces(Task):
    """Has the teacher write one shard and commits it."""

    work: str

    @property
    def inputs(self) -> list[str]:
        """The columns of a request."""
        return REQUEST_COLUMNS

    @property
    def outputs(self) -> list[str]:
        """A receipt per shard; the traces themselves are already on disk."""
        return ["shard", "num_traces"]

    def format_input(self, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002 (distilabel's name)
        """What our LLM classes take: the chat messages, and what else decides the one completion."""
        return {"messages": input["prompt"]} | {key: input[key] for key in ("problem_id", "sample", "answer", "seed")}

    def format_output(self, output: str | None, input: dict[str, Any] | None = None) -> dict[str, Any]:  # noqa: A002
        """The text as it is; what is right is for the verifier to say."""
        return {"completion": output}

    def process(self, inputs: StepInput) -> Iterator[list[dict[str, Any]]]:
        """Writes the shard that `inputs` are. Any failure ends the pipeline, through WORK/failure.json."""
        shards, shard = Shards.open(Path(self.work)), inputs[0]["shard"]
        assert {row["shard"] for row in inputs} == {shard}, "distilabel cut the batches elsewhere than at the shards"
        try:
            rows = next(super().process(inputs))
            shards.commit(shard, [self._as_trace(row) for row in rows])
        except Exception as error:
            failure = {"is_user_error": isinstance(error, UserError), "message": str(error) or type(error).__name__}
            write_json(shards.work / "failure.json", failure | {"traceback": traceback.format_exc()})
            raise
        yield [{"shard": shard, "num_traces": len(rows)}]

    def _as_trace(self, row: dict[str, Any]) -> dict[str, Any]:
        kept = {key: row[key] for key in ("problem_id", "sample", "task", "prompt", "answer", "completion")}
        extra = {key: row[f"llm_{self.name}_{key}"] for key in LLM_COLUMNS}
        return kept | extra | {"teacher": row["model_name"]}


def build_llm(teacher: SolverTeacher | OpenAITeacher) -> LLM:
    """The distilabel LLM of a teacher config."""
    if isinstance(teacher, OpenAITeacher):
        return OpenAITeacherLLM.from_config(teacher)
    return SolverLLM(**teacher.model_dump(exclude={"kind"}))


def run(work: Path) -> None:
    """Write all missing shards of `work`."""
    job = read_json(work / "teacher.json")
    llm = build_llm(TypeAdapter(Teacher).validate_python(job["teacher"]))
    num_workers, shard_size = job["num_workers"], Shards.open(work).shard_size
    with Pipeline(name="traces", cache_dir=work / "distilabel") as pipeline:
        read = ReadRequests(
            name="read", work=str(work), num_workers=num_workers, batch_size=shard_size, use_cache=False
        )
        write = WriteTraces(
            name="write",
            llm=llm,
            work=str(work),
            input_batch_size=shard_size,
            use_cache=False,
            add_raw_input=False,
            add_raw_output=False,
            resources=StepResources(replicas=num_workers),
        )
        read >> write
    pipeline.run(use_cache=False)


def _die_with_stdin() -> None:
    """End this process group, distilabel's processes with it, once whoever started it has gone."""
    os.read(0, 1)  # nothing is ever written there; sys.stdin would be locked against Python's own shutdown
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.excepthook = sys.__excepthook__  # distilabel's prints every local variable, secrets and all
    threading.Thread(target=_die_with_stdin, daemon=True).start()
    run(Path(sys.argv[1]))
