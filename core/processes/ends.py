"""Ends of pipes, handed by the server to a worker process that runs already.

They go through a pair of Unix sockets, the one means for it that every system has. The server makes all pipes: what a
worker process handed over could be anything.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from headway.core import forks


def pair() -> tuple[int, int]:
    """Return the two sockets: that of the server, which never blocks, and that of a worker process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    return forks.keep(ours.detach()), forks.keep(theirs.detach())


def hand(fd: int, end: int) -> None:
    """Hand ``end`` over, or nothing if it is negative. It stays open here."""
    ours = socket.socket(fileno=fd)
    try:
        # A process that is dead takes none.
        with suppress(OSError):
            socket.send_fds(ours, [b"\0"], [end] if end >= 0 else [])
    finally:
        ours.detach()


def take(fd: int) -> int:
    """Wait for an end, and return it. Return a negative number if there was none to hand over, or no room for it."""
    theirs = socket.socket(fileno=fd)
    try:
        for end in socket.recv_fds(theirs, 1, 1)[1]:
            os.set_inheritable(end, False)
            return end
    except OSError:
        pass
    finally:
        theirs.detach()
    return -1
