"""What we and a worker process tell each other, in frames.

A worker process is sent one Call at a time, and the payload after it. It says Ready (or Broken, and ends), and answers
each Call with any number of Progress and then one Done, the result after it, or one Failed. All of them bear the number
of the call. At any time it may say Log. Payloads and results are bytes here: the process decodes the one and encodes
the other, so that neither costs the loop anything but moving them.

A process that crashes in C leaves its stack where frames should be: ``faulthandler`` writes it there, and what it
begins with is no length that a frame can have (the letters of FATAL are a number over FRAME_BYTES).
"""

from __future__ import annotations

from typing import Literal

import msgspec
from headway.core.processes.frames import Message

# The longest body of a result.
BODY_MOST = 1 << 30
# The longest frame, without what comes raw after it: a log record whose characters take four bytes each.
FRAME_BYTES = 1 << 18
# How faulthandler begins.
FATAL = b"Fatal Python error"
# Seconds after which a process that was told to leave is killed: what its task modules have registered with atexit may
# take as long.
LEAVE_S = 3.0


class Call(Message, frozen=True, tag=True):
    """Run a task. ``number`` tells the calls of a pool apart; a payload of ``payload_bytes`` comes after the frame."""

    number: int
    task: str
    payload_bytes: int
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
    """The task of this call returned. A body of ``body_bytes`` comes after the frame; there is none for None.

    ``memory_bytes`` is what the process takes now.
    """

    number: int
    memory_bytes: int
    body_bytes: int | None
    media_type: str


class Failed(Message, frozen=True, tag=True):
    """The task of this call raised ``error``: a ``fault`` of its own, a Retry, or a ResultError."""

    number: int
    memory_bytes: int
    error: str
    traceback: str
    fault: Literal["task", "retry", "result"]
    # Whether the error is one of those after which the task is tried again, and when, where it asked for that.
    may_retry: bool
    retry_delay: float | None


class Log(Message, frozen=True, tag=True):
    """What was logged in the process, cut as records are; ``job_id`` is empty where no job ran."""

    logger: str
    level: int
    # Seconds since the epoch.
    created: float
    message: str
    stack: str
    job_id: str
    task: str
    attempt: int


FromChild = Ready | Broken | Progress | Done | Failed | Log

decode_call = msgspec.msgpack.Decoder(Call).decode
decode = msgspec.msgpack.Decoder(FromChild).decode
