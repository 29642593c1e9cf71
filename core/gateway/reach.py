"""Reaches the engine behind a Unix socket, again and again: it may end at any time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable

from headway.core.gateway.link import EngineLink

# Seconds between two tries.
TRY_S = 0.02
# Seconds until the next try after a link that lasted no longer.
AGAIN_S = 0.2


class Reach:
    """The link with the engine behind the socket ``path``.

    ``take`` gets the file of the rows, -1 for none, with kind, number and message of each frame. The file is closed
    with the link. ``lost`` is called when a link ends, and the next one is sought.
    """

    def __init__(self, path: str, take: Callable[[int, int, int, bytes], object], lost: Callable[[], object]) -> None:
        self._path = path
        self._take = take
        self._lost = lost
        # None while there is no engine.
        self.link: EngineLink | None = None
        self._rows_fd = -1
        # When the engine was reached last, of time.monotonic.
        self._reached_at = -AGAIN_S
        self._seeking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Seek the engine from now on."""
        self._seeking = asyncio.get_running_loop().create_task(self._seek())

    async def stop(self) -> None:
        """End the link, and seek no other."""
        if self._seeking is not None:
            self._seeking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._seeking
        link, self.link = self.link, None
        if link is not None:
            link.close()
        self._close_rows()

    def _has_ended(self) -> None:
        if self.link is None:
            return
        self.link = None
        self._close_rows()
        self._lost()
        self.start()

    async def _seek(self) -> None:
        # The socket is there even while the engine starts again: then a try waits in its backlog.
        if time.monotonic() - self._reached_at < AGAIN_S:
            await asyncio.sleep(AGAIN_S)
        while not await self._has_reached():  # noqa: ASYNC110 — nothing tells when it is there
            await asyncio.sleep(TRY_S)

    async def _has_reached(self) -> bool:
        loop = asyncio.get_running_loop()
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.setblocking(False)
        try:
            await loop.sock_connect(connected, self._path)
            self._rows_fd = await _rows_of(connected)
            link = EngineLink(self._take_frame, self._has_ended)
            # Its first frames may be handled before this goes on.
            self.link, self._reached_at = link, time.monotonic()
            await loop.create_unix_connection(lambda: link, sock=connected)
        except OSError:
            self.link = None
            self._close_rows()
            connected.close()
            return False
        except asyncio.CancelledError:
            connected.close()
            raise
        return True

    def _take_frame(self, kind: int, number: int, message: bytes) -> None:
        self._take(self._rows_fd, kind, number, message)

    def _close_rows(self) -> None:
        fd, self._rows_fd = self._rows_fd, -1
        if fd >= 0:
            os.close(fd)


async def _rows_of(connected: socket.socket) -> int:
    """Return the file of the rows, -1 if there is none. The engine sends it first. Raises OSError."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connected, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connected)
    data, fds, _, _ = socket.recv_fds(connected, 1, 1)
    if not data:
        raise ConnectionResetError
    for fd in fds:
        os.set_inheritable(fd, False)
    return fds[0] if fds else -1
