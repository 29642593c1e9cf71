"""What we and a worker process tell each other: a length in 4 bytes, big-endian, then MessagePack.

A worker process is sent one Call at a time. It says Ready (or Broken, and ends), and answers each Call with any
number of Progress and then one Done or Failed. Payloads and results are bytes here: the process decodes the one and
encodes the other, so that neither costs the loop anything but moving them.

A process that crashes in C leaves its stack where frames should be: ``faulthandler`` writes it there, and what it
begins with is no length that a frame can have (the letters of FATAL are a number over BODY_MOST + FRAME_BYTES).
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Literal

import msgspec

LENGTH = Layout(">I")
# The longest body of a result, and what the rest of a frame, or a failure, takes at most.
BODY_MOST = 1 << 30
FRAME_BYTES = 1 << 17
# How faulthandler begins.
FATAL = b"Fatal Python error"


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all messages; each has its name for a tag."""


class Call(Message, frozen=True, tag=True):
    """Run a task. ``number`` tells the calls of a pool apart."""

    number: int
    task: str
    payload: bytes
    job_id: str
    attempt: int


class Ready(Message, frozen=True, tag=True):
    """The task modules are imported."""


class Broken(Message, frozen=True, tag=True):
    """The task modules cannot be imported."""

    error: str


class Progress(Message, frozen=True, tag=True):
    """The task of this call says how far it is."""

    number: int
    percent: int


class Done(Message, frozen=True, tag=True):
    """The task returned; ``body`` is None for None. ``memory_bytes`` is what the process takes now."""

    memory_bytes: int
    body: bytes | None
    media_type: str


class Failed(Message, frozen=True, tag=True):
    """The task raised ``error``: a ``fault`` of its own, a Retry, or a ResultError."""

    memory_bytes: int
    error: str
    traceback: str
    fault: Literal["task", "retry", "result"]
    # Whether the error is one of those after which the task is tried again, and when, where it asked for that.
    may_retry: bool
    retry_delay: float | None


FromChild = Ready | Broken | Progress | Done | Failed

decode_call = msgspec.msgpack.Decoder(Call).decode
decode = msgspec.msgpack.Decoder(FromChild).decode
_encode = msgspec.msgpack.Encoder().encode


def frame(message: Message) -> bytes:
    """Return the bytes of a message with its length before it."""
    body = _encode(message)
    return LENGTH.pack(len(body)) + body
