"""Tasks that tell their user and take more than they may, in worker processes.

All that this module imports is imported before a process changes its user. That one may not be able
to read the Python of these tests, which may belong to root.
"""

from __future__ import annotations

import os
import resource
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import headway


@headway.task
def who(_: object) -> dict[str, Any]:
    """Return the user, the groups and the environment of this process."""
    names = ("HOME", "USER", "LOGNAME", "HEADWAY_ENGINE", "HEADWAY_WORKERS")
    return {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": os.getgroups(),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "pid": os.getpid(),
        "environment": {name: os.environ.get(name) for name in names},
    }


@headway.task
def become_root(_: object) -> None:
    """Try to get the rights of root back."""
    os.setuid(0)


@headway.task
def read(path: str) -> str:
    """Return the text of a file, or its environment where that is ``/proc``'s."""
    return Path(path).read_text(errors="replace")


@headway.task
def signal(pid: int) -> None:
    """Send a signal that does nothing."""
    os.kill(pid, 0)


@headway.task
def take_memory(megabytes: int) -> int:
    """Take some memory."""
    return len(bytes(megabytes << 20))


hoard: list[bytes] = []


@headway.task
def leave_memory(megabytes: int) -> None:
    """Take all of the address space that this process may have but so much, and keep it."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    hoard.append(bytes(resource.getrlimit(resource.RLIMIT_AS)[0] - used - (megabytes << 20)))


@headway.task(body_bytes=60_000_000)
def take_content(body: headway.Body) -> int:
    """Return the length of the content."""
    return len(body.data)


@headway.task
def take_cpu(seconds: float) -> int:
    """Compute for so much CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return os.getpid()


@headway.task
def open_files(count: int) -> None:
    """Open files."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
