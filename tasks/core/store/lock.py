"""A lock on a fingerprint that outlives a kill -9, for processes on one machine or on many that share a disk.

The lock is a directory with one file whose *name* says who holds it; the file's time is the holder's heartbeat.

- Take: make a private directory with that file and rename it onto the lock. It fails when the lock has a file in it.
- Release: unlink our file. The empty directory that is left is free.
- Take over a dead holder: rename its file to our name. The source has the dead holder's unique name, so of many takers
  exactly one succeeds, and a taker that looked long ago cannot hit a newer holder.

Only mkdir, rename, unlink and utime are used, each atomic on local disks and on NFS; no flock, which some cluster disks
lack. A holder on this machine is dead when its process is. One on another machine is dead when its heartbeat has stood
still for `STALE_S` of *our* clock, so clocks need not agree.
"""

import contextlib
import errno
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tasks.core.store.disk import disk_errors

HEARTBEAT_S = 5.0
STALE_S = 60.0
POLL_S = (0.05, 1.0)
_NAME = re.compile(r"(\d+)-(\d+)-(\w+)-(\d+)-(\w+)@(.+)")


class LockLost(Exception):
    """Another process took this lock over, having seen no heartbeat for too long: what we build no longer counts."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as its file's name tells it. `born` and `machine` tell a reused pid and a like-named host."""

    pid: int
    born: int
    machine: str
    started: int
    token: str
    host: str

    @classmethod
    def me(cls) -> "Holder":
        """This process, with a token of its own for every lock it asks for."""
        host = re.sub(r"[^\w.-]", "_", socket.gethostname())
        born = _process_birth(os.getpid())
        return cls(os.getpid(), born, _machine(), int(time.time()), uuid.uuid4().hex[:12], host)

    @classmethod
    def parse(cls, name: str) -> "Holder | None":
        """The holder that a file name tells of; None for other files (.nfs… and the like)."""
        if not (match := _NAME.fullmatch(name)):
            return None
        pid, born, machine, started, token, host = match.groups()
        return cls(int(pid), int(born), machine, int(started), token, host)

    @property
    def name(self) -> str:
        """The file name in the lock."""
        return f"{self.pid}-{self.born}-{self.machine}-{self.started}-{self.token}@{self.host}"

    @property
    def is_here(self) -> bool:
        """Whether its pid means something to us: same boot and same pid namespace, not merely the same host name."""
        return self.machine == _machine()

    @property
    def is_running(self) -> bool:
        """Whether the process lives. Only meaningful when it is here."""
        return _process_birth(self.pid) == self.born

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        return f"pid {self.pid} on host {self.host} (holds it since {since})"


class Lock:
    """A context manager: `with Lock(store, key, on_wait):` waits for its turn and keeps a heartbeat until the end.

    `on_wait` gets one line for each holder that is waited for, and one for each that is taken over. `pause` sleeps for
    some seconds; whatever it raises ends the waiting.
    """

    def __init__(
        self, store: Path, key: str, on_wait: Callable[[str], None], stale_s: float = STALE_S,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self.store, self.key, self.on_wait, self.stale_s, self.pause = store, key, on_wait, stale_s, pause
        self.directory = store / ".locks" / f"{key}.lock"
        self.me = Holder.me()
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None

    @property
    def _mine(self) -> Path:
        return self.directory / self.me.name

    def check(self) -> None:
        """Raise LockLost when the lock is not ours any more."""
        if not self._mine.exists():
            raise LockLost(f"the lock on {self.key} was taken over by {holder_of(self.directory) or 'nobody'}")

    def __enter__(self) -> "Lock":
        with disk_errors(self.store):
            self._acquire()
        self._heart = threading.Thread(target=self._beat, name=f"heartbeat-{self.key}", daemon=True)
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._heart is not None:
            self._heart.join()
        with contextlib.suppress(OSError):  # gone already: taken over, or the disk is; either way not ours to mend
            self._mine.unlink()
            self.directory.rmdir()

    def _acquire(self) -> None:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        seen: tuple[Holder | None, int] | None = None
        seen_at, pause_s = time.monotonic(), POLL_S[0]
        while True:
            now = _look(self.directory)
            holder = now[0]
            if holder is None:
                if self._try_to_take():
                    return
            else:
                if seen is None or holder != seen[0]:
                    self.on_wait(f"waiting for {holder} to finish {self.key}")
                if now != seen:
                    seen, seen_at = now, time.monotonic()
                reason = _why_dead(holder, time.monotonic() - seen_at, self.stale_s)
                if reason and self._try_to_take_over(holder):
                    self.on_wait(f"took {self.key} over from {holder}: {reason}")
                    return
            self.pause(pause_s)
            pause_s = min(POLL_S[1], pause_s * 1.5)

    def _try_to_take(self) -> bool:
        claim = self.directory.with_name(f"{self.key}.{self.me.token}.claim")
        claim.mkdir()
        try:
            (claim / self.me.name).touch()
            claim.rename(self.directory)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
            return self._mine.exists()  # NFS may repeat a rename whose answer was lost, and then call it failed
        finally:
            shutil.rmtree(claim, ignore_errors=True)
        return True

    def _try_to_take_over(self, dead: Holder) -> bool:
        with contextlib.suppress(FileNotFoundError):  # another taker was first, or the holder came back and released
            (self.directory / dead.name).rename(self._mine)
            os.utime(self._mine)
        return self._mine.exists()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            try:
                os.utime(self._mine)
            except FileNotFoundError:
                return  # taken over; check() tells the builder
            except OSError:
                continue  # a disk that is away for a while: the next beat may succeed


def holder_of(directory: Path) -> Holder | None:
    """Who holds the lock `directory`, dead or alive; None when it is free."""
    return _look(directory)[0]


def is_held(store: Path, key: str) -> bool:
    """Whether a live process (or one of another machine that may be live) holds the lock on `key`."""
    holder = holder_of(store / ".locks" / f"{key}.lock")
    return holder is not None and not (holder.is_here and not holder.is_running)


def _look(directory: Path) -> tuple[Holder | None, int]:
    """The holder and the time of its last heartbeat, in ns of the disk's clock."""
    try:
        holders = [holder for name in os.listdir(directory) if (holder := Holder.parse(name))]
        if not holders:
            return None, 0
        handle = os.open(directory / holders[0].name, os.O_RDONLY)  # NFS: open, unlike stat, asks the server
    except FileNotFoundError:
        return None, 0
    except OSError as error:
        if error.errno == errno.ESTALE:
            return None, 0
        raise
    try:
        return holders[0], os.fstat(handle).st_mtime_ns
    finally:
        os.close(handle)


def _why_dead(holder: Holder, silent_s: float, stale_s: float) -> str:
    if holder.is_here:
        return "" if holder.is_running else "that process has died"
    return f"no heartbeat for {silent_s:.0f} s" if silent_s > stale_s else ""


def _machine() -> str:
    """Eight hex digits of this boot and pid namespace: where it is equal, pids can be compared."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
        return f"{boot}{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:
        return re.sub(r"\W", "_", socket.gethostname())


def _process_birth(pid: int) -> int:
    """Start time of a process in clock ticks since boot, which tells a reused pid; -1 when there is no such process."""
    if not Path("/proc/self/stat").exists():  # macOS: no birth time, so a reused pid looks alive
        return 0 if _answers(pid) else -1
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] in "ZX" else int(fields[19])


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
