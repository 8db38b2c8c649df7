"""The one way to get completions, for traces and for the judge: `write_completions`."""

import time
from collections.abc import Sequence
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.parts import Parts
from tasks.core.progress import Progress
from tasks.core.stopping import Paused, stop_is_asked
from tasks.core.teachers.config import LocalTeacher, OpenAITeacher, Teacher
from tasks.core.teachers.process import Job, TeacherProcess
from tasks.core.teachers.requests import PromptRows, Requests
from tasks.core.teachers.speed import Speed, SpeedFile, read_speed
from tasks.core.teachers.tally import Tally, read_tally

__all__ = ["PromptRows", "Requests", "Speed", "write_completions"]

POLL_EVERY_S = 0.2
SHOW_S = 1.0
"""How long after a sign of life progress.json is written: then it rests, which is how a hanging teacher is known."""


def write_completions(
    teacher: Teacher,
    requests: Requests | PromptRows,
    parts: Parts,
    numbers: Sequence[int],
    *,
    num_workers: int,
    desk: Path,
    scratch: Path,
    unit: str,
    model: Path | None = None,
) -> Speed:
    """Have `teacher` answer the requests of those parts of `numbers` that are not committed, and commit them.

    Part i holds the requests `parts.rows(i)`, one row each, with the columns of `requests.schema()`. `parts` must be
    planned with a key that covers `teacher.identity()`, `requests.digest()` and, for a teacher in process, `model`, the
    artifact with its checkpoint. Progress is shown, in `unit`s, and a stop looked for, in `desk`; `scratch` is a
    directory for this process alone, and it, `numbers` and `num_workers` decide nothing. Each finished completion is in
    a journal at once: a run that was killed and is started again asks only for what was in flight.

    Returns the speed over all runs, this one included. Raises UserError when too many requests are refused or the
    endpoint wants another key or model, TransientError when it is down for longer than its patience, and Paused.
    """
    parts.drop_damaged(numbers)
    total, missing = parts.num_rows_of(numbers), parts.missing(numbers)
    num_kept = total - parts.num_rows_of(missing)
    if num_kept:
        print(f"{num_kept} of {total} {unit} are committed already", flush=True)
    if isinstance(teacher, LocalTeacher) and model is None:
        raise UserError(
            f"teacher.kind is {teacher.kind!r}, which samples a checkpoint in process, but the stage has no input "
            "`model`: name a fetch_model, train_sft, train_grpo or train_ppo stage there."
        )
    with Progress(desk, total, unit) as progress:
        progress.update(num_kept)
        if missing:
            job = Job(
                teacher=teacher, requests=requests, parts=parts, numbers=missing, num_workers=num_workers, model=model
            )
            speed = SpeedFile(parts)
            try:
                with TeacherProcess(scratch, job) as process:
                    _watch(process, job, progress, desk, speed)
            finally:
                speed.write(read_tally(scratch).num_tokens)
        if left := parts.missing(missing):
            raise RuntimeError(f"distilabel ended without writing the parts {left}; its messages stand above")
    return read_speed(parts)


def _watch(process: TeacherProcess, job: Job, progress: Progress, desk: Path, speed: SpeedFile) -> None:
    """Return when the teacher has ended or its parts are all committed; raises Paused, and what went wrong with it."""
    num_kept = progress.done
    seen, began, seen_at = Tally(), time.monotonic(), time.monotonic()
    while job.parts.missing(job.numbers) and process.is_running():
        tally = read_tally(process.scratch)
        if stop_is_asked(desk):
            done = num_kept + tally.num_done
            raise Paused(f"paused after {done} of {progress.total} {progress.unit}, which are kept")
        if tally != seen:
            if tally.num_tokens != seen.num_tokens:
                speed.write(tally.num_tokens)
            seen, seen_at = tally, time.monotonic()
        if time.monotonic() - seen_at < SHOW_S:
            note = describe(seen, job.teacher, progress.total - num_kept, time.monotonic() - began)
            progress.update(min(num_kept + seen.num_done, progress.total - 1), note)
        time.sleep(POLL_EVERY_S)


def describe(tally: Tally, teacher: Teacher, num_to_do: int, wall_s: float) -> str:
    """A few words for the progress: speed, time left, what was refused, cost by now and in all, what is wrong."""
    if not tally.num_asked:
        return tally.note
    left_s = wall_s / tally.num_asked * (num_to_do - tally.num_done)
    words = [f"{tally.num_tokens / wall_s:.0f} tokens/s, {_clock(left_s)} left"]
    words += [f"{tally.num_failed} refused"] if tally.num_failed else []
    if (spent := cost_usd(teacher, tally.num_prompt_tokens, tally.num_tokens)) is not None:
        num_paid = num_to_do - (tally.num_done - tally.num_asked)  # the journal's were paid for by an earlier run
        words.append(f"${spent:.2f} of about ${spent * num_paid / tally.num_asked:.2f}")
    return ", ".join([*words, *([tally.note] if tally.note else [])])


def cost_usd(teacher: Teacher, num_prompt_tokens: int, num_tokens: int) -> float | None:
    """What these tokens cost; None for a teacher without a price."""
    if not isinstance(teacher, OpenAITeacher):
        return None
    price_in, price_out = teacher.price_per_mtok_in, teacher.price_per_mtok_out
    if price_in is None and price_out is None:
        return None
    return ((price_in or 0.0) * num_prompt_tokens + (price_out or 0.0) * num_tokens) / 1e6


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
