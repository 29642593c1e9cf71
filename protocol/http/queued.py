"""Bytes that the kernel has of a connection: sent by the client and unread, or sent to it and not acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios

# Linger for no second (socket(7)).
AT_ONCE = struct.pack("ii", 1, 0)


def unread_bytes(transport: asyncio.Transport) -> int:
    """Return how many bytes of the client the loop has not read yet."""
    return _asked(transport, termios.FIONREAD)


def unacknowledged_bytes(transport: asyncio.Transport) -> int:
    """Return how many bytes the client has not acknowledged. 0 where the system does not tell."""
    return _asked(transport, termios.TIOCOUTQ)


def forget_at_end(transport: asyncio.Transport) -> None:
    """Have the kernel drop the bytes for the client when the connection ends. It would offer them on and on."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        # One that has gone has no options.
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)


def _asked(transport: asyncio.Transport, request: int) -> int:
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return 0
    count = bytearray(4)
    try:
        fcntl.ioctl(connection.fileno(), request, count)
    except OSError:
        return 0
    return int.from_bytes(count, sys.byteorder)
