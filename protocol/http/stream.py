"""An answer without an end that is known: its pieces are sent as they come.

It is the last answer of its connection. In HTTP/1.1 each piece is a chunk (RFC 9112, 7.1), and the
last chunk says that the stream ended, and did not break. In HTTP/1.0 the end of the connection is
the end of the stream.

A client that does not read has one piece in its buffers, and then the source is asked no more: it
is the source that gives something up. A client that has gone without a word is found by the bytes
that it does not acknowledge.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Protocol

import msgspec

CHUNKED = b"Transfer-Encoding: chunked\r\n"
LAST_CHUNK = b"0\r\n\r\n"
# Seconds between two signs of life, and a tick less. Proxies end a connection that is silent for a
# minute.
BEAT_S = 14.0
# Bytes that the kernel keeps for a client. By itself it would take megabytes for one that does not
# read.
KERNEL_BYTES = 128 * 1024


class Source(Protocol):
    """The pieces of a stream."""

    # Whether no piece follows those that were taken.
    ended: bool

    def when_more(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when there is a piece to take, and not again until it was taken."""

    def take(self) -> bytes:
        """Return the next piece, empty if there is none now."""

    def beat(self) -> bytes:
        """Return a sign of life."""

    def close(self) -> None:
        """Do not wake: the client has gone, or the stream has ended."""


class Stream(msgspec.Struct):
    """A stream. ``head`` includes its empty line, and ``first`` is the first piece, not empty."""

    head: bytes
    first: bytes
    source: Source


class Streaming:
    """A stream on its way to a client."""

    __slots__ = ("_is_chunked", "_source", "_transport")

    def __init__(self, source: Source, transport: asyncio.Transport, *, is_chunked: bool) -> None:
        self._source = source
        self._transport = transport
        self._is_chunked = is_chunked

    @property
    def ended(self) -> bool:
        """Whether no piece follows."""
        return self._source.ended

    def begin(self, wake: Callable[[], object], patience_s: float) -> None:
        """Have ``wake`` called for each piece. A client may acknowledge nothing for ``patience_s``."""
        connection = self._transport.get_extra_info("socket")
        # One that has gone has no options.
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(patience_s * 1000))
        self._source.when_more(wake)

    def send(self) -> None:
        """Write the next piece, if there is one."""
        self._write(self._source.take())

    def beat(self) -> None:
        """Write a sign of life."""
        self._write(self._source.beat())

    def framed(self, piece: bytes) -> bytes:
        """Return a piece as it is sent."""
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece

    def end(self) -> None:
        """Say that nothing follows."""
        self._source.close()
        if self._is_chunked:
            self._transport.write(LAST_CHUNK)

    def close(self) -> None:
        """Ask for nothing more: the client has gone."""
        self._source.close()

    def _write(self, piece: bytes) -> None:
        if piece:
            self._transport.write(self.framed(piece))
