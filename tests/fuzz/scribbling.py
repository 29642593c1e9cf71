"""Tasks in worker processes, one of which writes where its process talks to the server."""

from __future__ import annotations

import os
import stat

import headway


def pipes() -> list[int]:
    """Return the pipes that this process has besides those that every process has."""
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and _is_pipe(fd)]


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        # The folder that was listed.
        return False


@headway.task
def scribble(payload: str) -> str:
    """Write bytes, given as hex digits, into each pipe that can be written to."""
    for fd in pipes():
        try:
            os.write(fd, bytes.fromhex(payload))
        except OSError:
            continue
    return "done"


@headway.task
def give(payload: int) -> int:
    """Return the payload."""
    return payload
