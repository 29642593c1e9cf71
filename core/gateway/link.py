"""One connection between a gateway and its engine: frames out, frames in.

Frames of one turn leave in one write. Those that came are handled for ROUND_S at a time, so that no gateway takes
the loop for itself. Meanwhile no more are read. The engine carries out no calls of a gateway that takes no
answers, either, not even those that have come. A gateway reads answers even if the engine takes no calls: if both
waited for the other to read, neither ever would.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import cast

from headway.core.gateway.wire import HEAD, MESSAGE_BYTES, frame

log = logging.getLogger(__name__)

# Seconds of one turn for frames that came.
ROUND_S = 0.001
# With more bytes that a gateway has not taken, the engine reads nothing more from it.
BUFFER_BYTES = 1 << 20


class EngineLink(asyncio.Protocol):
    """A connection. ``take`` gets kind, number and message of each frame, ``lost`` is called at the end.

    ``waits``: nothing is read while the other side takes nothing. That is for the engine's end alone.
    """

    def __init__(
        self, take: Callable[[int, int, bytes], object], lost: Callable[[], object], *, waits: bool = False
    ) -> None:
        self._take = take
        self._lost = lost
        self._waits = waits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._in = bytearray()
        # Whether the rest of ``_in`` is handled in the next turn, and whether the other side takes nothing.
        self._goes_on = self._is_full = False

    @property
    def is_open(self) -> bool:
        """Whether frames can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the other side has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(BUFFER_BYTES)

    def connection_lost(self, _: Exception | None) -> None:
        """It has ended."""
        self._transport = None
        self._in.clear()
        self._out.clear()
        self._lost()

    def pause_writing(self) -> None:
        """The other side takes too little."""
        self._is_full = self._waits
        self._read_or_not()

    def resume_writing(self) -> None:
        """The other side has taken all."""
        self._is_full = False
        if self._in and not self._goes_on:
            self._go_on_soon()
        self._read_or_not()

    def data_received(self, data: bytes) -> None:
        """Handle the frames that are whole."""
        self._in += data
        if not self._goes_on:
            self._handle()

    def send(self, kind: int, number: int = 0, message: bytes = b"") -> None:
        """Send a frame at the end of this turn."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame(kind, number, message))

    def close(self) -> None:
        """Send the rest, and end."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _handle(self) -> None:
        """Handle frames for a while, unless the other side has to take the answers to those before."""
        self._goes_on = False
        if self._is_full:
            return
        data, at, until = self._in, 0, time.monotonic() + ROUND_S
        while len(data) - at >= HEAD.size:
            length, kind, number = HEAD.unpack_from(data, at)
            if length > MESSAGE_BYTES:
                # It is no gateway of ours.
                self.close()
                return
            end = at + HEAD.size + length
            if end > len(data):
                break
            message = bytes(memoryview(data)[at + HEAD.size : end])
            at = end
            try:
                self._take(kind, number, message)
            except Exception:
                log.exception("a frame of kind %d cannot be read, and its link ends", kind)
                self.close()
                return
            if self._transport is None:
                return
            if time.monotonic() >= until and len(data) - at >= HEAD.size:
                self._go_on_soon()
                break
        del data[:at]
        self._read_or_not()

    def _go_on_soon(self) -> None:
        self._goes_on = True
        self._loop.call_soon(self._handle)

    def _read_or_not(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._goes_on or self._is_full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
