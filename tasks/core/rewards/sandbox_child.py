"""The far side of `sandbox.py`: fence this process in, then become the Python that runs the foreign program.

Run by its path with `python -I -S`: it imports the standard library only, and never its neighbours here. Arguments: a
directory for the program to work in, and the limits as JSON. The program comes from DIRECTORY/program.py. With
--probe: end with 0 if this machine lets us have namespaces.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable

PROGRAM = "program.py"
# From the kernel's headers sched.h, mount.h and prctl.h.
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 1 << 17, 1 << 27, 1 << 28, 1 << 29, 1 << 30
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 1 << 1, 1 << 2, 1 << 14, 1 << 18
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 1 << 15, 1
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """Call a function of the C library; raises OSError where it fails."""
    if getattr(LIBC, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def run_fenced_in(rooms: dict[str, int], start: Callable[[bool], None]) -> int:
    """Fork a process that calls `start` in the first room, behind the fence if this machine lets us have one.

    `start` hears whether it does, and becomes another program, which gives up the rights that the namespaces were made
    with. Returns that program's exit status, or the number of the signal that ended it. It ends with this process, and
    behind the fence it is number 1 of its namespace: when it ends, the kernel kills whatever it has started.
    """
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    try:
        isolate(rooms)
        is_isolated = True
    except OSError:
        is_isolated = False
    os.chdir(next(iter(rooms)))
    child = os.fork()
    if child == 0:
        call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
        start(is_isolated)
    return abs(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def isolate(rooms: dict[str, int]) -> None:
    """New namespaces: no network, no view of other processes' ids, and a file system that is read-only but for `rooms`.

    Each of these directories becomes a file system in memory of so many MB. Raises OSError where the kernel forbids it.
    """
    user, group = os.getuid(), os.getgid()
    call("unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET)
    # Any id but 0: the program loses all capabilities when it is started. Outside we stay who we are.
    for file, line in (("setgroups", "deny"), ("uid_map", f"1000 {user} 1"), ("gid_map", f"1000 {group} 1")):
        with open(f"/proc/self/{file}", "w") as out:
            out.write(line)
    call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    read_only = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)  # struct mount_attr: set, clear, propagation, user
    call("syscall", ctypes.c_long(SYS_MOUNT_SETATTR), AT_FDCWD, b"/", AT_RECURSIVE, read_only, ctypes.c_size_t(32))
    for room, megabytes in rooms.items():
        options = f"size={megabytes}m,nr_inodes=1000,mode=0700".encode()
        call("mount", b"tmpfs", room.encode(), b"tmpfs", MS_NOSUID | MS_NODEV, options)


def limit(limits: dict[str, int], is_isolated: bool) -> None:
    """Resource limits of this process and those it starts; the kernel does not hold root to the number of processes."""
    megabyte = 1 << 20
    # Inside a user namespace only its own processes count, outside all of the user's.
    others = 0 if is_isolated else num_tasks_of_user()
    for name, value in (
        ("CPU", limits["cpu_s"]),
        ("AS", limits["memory_mb"] * megabyte),
        ("FSIZE", limits["file_mb"] * megabyte),
        ("NPROC", others + limits["num_processes"]),
        ("NOFILE", 64),
        ("CORE", 0),
    ):
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def num_tasks_of_user() -> int:
    """Processes and threads of this user, as far as they can be seen."""
    count = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            count += len(os.listdir(f"/proc/{pid}/task")) if os.stat(f"/proc/{pid}").st_uid == os.getuid() else 0
        except OSError:
            continue  # it has ended, or is hidden from us
    return count


def main(directory: str, limits: dict[str, int]) -> int:
    """Run the program, return its exit status, or the number of the signal that ended it."""
    with open(f"{directory}/{PROGRAM}", encoding="utf-8") as file:
        source = file.read()

    def start(is_isolated: bool) -> None:
        if is_isolated:  # in a file system of its own, which is empty
            with open(PROGRAM, "w", encoding="utf-8") as file:
                file.write(source)
        limit(limits, is_isolated)
        os.execv(sys.executable, [sys.executable, "-I", "-S", PROGRAM])

    return run_fenced_in({directory: limits["disk_mb"]}, start)


def probe(directory: str) -> int:
    """0 if namespaces are to be had here."""
    try:
        isolate({directory: 1})
    except OSError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(probe(sys.argv[1]) if sys.argv[2] == "--probe" else main(sys.argv[1], json.loads(sys.argv[2])))
