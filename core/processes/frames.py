"""Frames: a length in 4 bytes, big-endian, then a message in MessagePack, then raw bytes.

Worker processes and the writer of the journal are spoken to in frames.
"""

from __future__ import annotations

from struct import Struct as Layout

import msgspec

LENGTH = Layout(">I")
# Raw bytes up to which they are written together with the frame before them.
JOINED_BYTES = 1 << 15


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all messages; each has its name for a tag."""


_encode = msgspec.msgpack.Encoder().encode


def frame(message: Message) -> bytes:
    """Return the bytes of a message with its length before it."""
    body = _encode(message)
    return LENGTH.pack(len(body)) + body


def parts(message: Message, raw: bytes) -> tuple[bytes, ...]:
    """Return what to write for a message with ``raw`` after it: one part where that costs no great copy."""
    whole = frame(message)
    return (whole + raw,) if len(raw) < JOINED_BYTES else (whole, raw)
