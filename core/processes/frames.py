"""Frames: a length in 4 bytes, big-endian, then a message in MessagePack, then raw bytes.

The server talks in frames with worker processes and with the writer of the journal.
"""

from __future__ import annotations

from struct import Struct as Layout

import msgspec

LENGTH = Layout(">I")
# Up to so many raw bytes are written together with the frame before them.
JOINED_BYTES = 1 << 15


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The base of all messages. The tag of each is its name."""


_encode = msgspec.msgpack.Encoder().encode


def frame(message: Message) -> bytes:
    """Return the bytes of a message with its length before it."""
    body = _encode(message)
    return LENGTH.pack(len(body)) + body


def parts(message: Message, raw: bytes = b"") -> list[bytes]:
    """Return the parts to write for a message and ``raw`` after it: few, without a copy of a long one."""
    body = _encode(message)
    head = LENGTH.pack(len(body))
    if len(body) + len(raw) < JOINED_BYTES:
        return [head + body + raw]
    if len(body) < JOINED_BYTES:
        return [head + body, raw]
    return [head, body, raw] if raw else [head, body]
