"""Accepts clients as fast as they come.

libuv, and so uvloop's own server, accepts one connection in a turn of the loop. Under load a turn
serves every client that is ready. So a crowd that connects at once waits for as many turns as it
has members. Here a turn accepts all waiting connections, up to ACCEPTS_MOST (100 connections: 4
turns instead of 101).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable
from functools import partial
from math import inf

from headway.protocol.process.entry import WayIn

log = logging.getLogger(__name__)

# Connections accepted in one turn of the loop. Connected clients are served in between.
ACCEPTS_MOST = 256
# Seconds without accepting, after the process or the machine had no more files to give. Once it has,
# clients are accepted as soon as that.
REST_S = 0.05
# Seconds between two lines of the log about that.
SAY_S = 10.0
# Connections that may be on their way in, however many are open.
ENTERING_LEAST = 64
# Seconds for connections that are on their way in when nobody else is let in.
LAST_ENTRIES_S = 0.5
NO_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptor:
    """Accepts on ``bound``, a bound socket, and sends each connection through ``entry``.

    ``room`` says how many more connections there may be. Those on their way in share it: the oldest
    gives way, because a client that means well is in within milliseconds. ``make_place`` closes an
    idle connection if there is one. It is called when there is no file for a client.
    """

    def __init__(
        self,
        bound: socket.socket,
        backlog: int,
        entry: WayIn,
        *,
        room: Callable[[], int],
        make_place: Callable[[], object],
    ) -> None:
        self._bound = bound
        self._entry = entry
        self._room = room
        self._make_place = make_place
        # When the log said last that there are no files, of time.monotonic.
        self._said = -inf
        self._family = bound.family
        self._loop = asyncio.get_running_loop()
        # Connections on their way in, the oldest first.
        self._entering: dict[asyncio.Task[None], None] = {}
        self._rest: asyncio.TimerHandle | None = None
        bound.listen(backlog)
        bound.setblocking(False)
        self._loop.add_reader(bound, self._accept)

    async def stop(self) -> None:
        """Accept no more. Open connections go on, and new clients wait in the kernel."""
        if self._rest is not None:
            self._rest.cancel()
        self._loop.remove_reader(self._bound)
        if self._entering:
            _, late = await asyncio.wait(self._entering, timeout=LAST_ENTRIES_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_MOST):
            try:
                descriptor, _ = self._bound._accept()  # type: ignore[attr-defined]  # typeshed leaves it out
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in NO_FILES:
                    self._take_a_rest(error)
                    return
                # The client went away while it waited.
                continue
            # As ``socket.accept`` does, which looks family and kind up among enums: 5 µs of 9.
            client = socket.socket(self._family, socket.SOCK_STREAM, 0, descriptor)
            # libuv sets TCP_NODELAY.
            client.setblocking(False)
            task = self._loop.create_task(self._entry.enter(client))
            self._entering[task] = None
            task.add_done_callback(partial(self._entered, client))
            if self._entry.waits and len(self._entering) > max(self._room(), ENTERING_LEAST):
                oldest = next(iter(self._entering))
                del self._entering[oldest]
                oldest.cancel()
                self._entry.gave_way()

    def _entered(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        self._entering.pop(task, None)
        if task.cancelled():
            # It may not have begun.
            client.close()
        elif task.exception() is not None:
            log.warning("a client could not be connected: %r", task.exception())

    def _take_a_rest(self, error: OSError) -> None:
        """Leave waiting clients in the backlog until files are free. Watching them would spin."""
        now = time.monotonic()
        if now - self._said > SAY_S:
            self._said = now
            log.error("cannot accept clients: %s. Raise the limit with ulimit -n, or lower limits.connections.", error)
        self._make_place()
        self._loop.remove_reader(self._bound)
        self._rest = self._loop.call_later(REST_S, self._loop.add_reader, self._bound, self._accept)
