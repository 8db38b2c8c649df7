"""What the end of a stage's process is called: an exit code, a cause and one paragraph."""

import errno
from dataclasses import dataclass

from tasks.core.errors import TransientError, Unhealthy, UserError
from tasks.core.stage import Stage
from tasks.core.stopping import Paused

# A crash is our mistake, 2 the user's, 75 (EX_TEMPFAIL) nobody's: try again.
EXIT_OK, EXIT_CRASH, EXIT_USER_ERROR, EXIT_TRY_AGAIN = 0, 1, 2, 75
TORCH_HOST_MEMORY = "DefaultCPUAllocator: can't allocate memory"  # a plain RuntimeError
CUDA_MEMORY = "CUDA error: out of memory"  # what the driver refused, not torch's allocator


@dataclass(frozen=True)
class Ending:
    """How a stage's process ends: `cause` is a word for programs, `error` a paragraph for people; None when done."""

    exit_code: int
    cause: str | None
    error: str | None


DONE = Ending(EXIT_OK, None, None)
SAID_TOGETHER = ("paused", "unhealthy")
"""Causes on which all ranks agree before they end: rank 0 tells them, the others end well."""
INTERRUPTED = Ending(EXIT_CRASH, "interrupted", "interrupted")


def ending_of(error: BaseException, stage: Stage) -> Ending:
    """What to tell of an exception that left the stage's function."""
    if isinstance(error, Unhealthy):
        return Ending(EXIT_USER_ERROR, "unhealthy", str(error))
    if isinstance(error, UserError):
        return Ending(EXIT_USER_ERROR, "user_error", str(error))
    if isinstance(error, Paused):
        return Ending(EXIT_TRY_AGAIN, "paused", str(error))
    if isinstance(error, TransientError):
        return Ending(EXIT_TRY_AGAIN, "transient", str(error))
    if refused := find_memory_error(error):
        return Ending(EXIT_USER_ERROR, "out_of_memory", _what_to_lower(*refused, stage))
    return Ending(EXIT_CRASH, "code_error", f"{type(error).__name__}: {error}")


def find_memory_error(error: BaseException | None) -> tuple[str, BaseException] | None:
    """("GPU" or "host", the exception that says so) when `error`, or what it names as its cause, is want of memory.

    Torch's exception is known by its name, because most stages never load torch.
    """
    while error is not None:
        names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
        if "torch.OutOfMemoryError" in names or (isinstance(error, RuntimeError) and CUDA_MEMORY in str(error)):
            return "GPU", error
        is_refused = isinstance(error, OSError) and error.errno == errno.ENOMEM
        if isinstance(error, MemoryError) or is_refused or TORCH_HOST_MEMORY in str(error):
            return "host", error
        error = error.__cause__
    return None


def _what_to_lower(memory: str, error: BaseException, stage: Stage) -> str:
    """One paragraph: what ran out, in the words of who noticed, and the keys that decide how much is needed."""
    sentences = f"{type(error).__name__}: {error}".partition("\n")[0].removesuffix(": ").removesuffix(".").split(". ")
    name = "the GPU's memory" if memory == "GPU" else "the machine's memory, or the job's share of it,"
    cure = stage.memory_advice or "give it less to do at a time"
    more = ", or raise resources.mem_gb" if memory == "host" else ""
    return f"{name} ran out in {stage.name} ({'. '.join(sentences[:2])}): {cure}{more}. The traceback is in the log."
