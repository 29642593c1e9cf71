"""The messages between the server and a worker process, in frames.

The server sends a worker process one Call at a time, and the payload after it. The process sends
Ready (or Broken, and ends). It answers each Call with any number of Progress, and then with one
Done, the result after it, or with one Failed. All of them bear the number of the call. At any time
it may send Log. Payloads and results are bytes here: the process decodes the one and encodes the
other, so that the loop only moves them.

A process that crashes in C leaves its stack where frames should be, written there by
``faulthandler``. Its beginning is no length that a frame can have: the letters of FATAL are a
number over FRAME_BYTES.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from headway.core.processes.frames import Message
from headway.core.tasks.context import MESSAGE_MOST
from headway.core.tasks.failure import Failure
from msgspec import Meta

# The longest body of a result.
BODY_MOST = 1 << 30
# The longest frame, without the raw bytes after it: a log record with characters of four bytes
# each.
FRAME_BYTES = 1 << 18
# Seconds since the epoch, later than the time of any record: the year 5138.
CREATED_BEFORE = 1e11
# The beginning of the output of faulthandler.
FATAL = b"Fatal Python error"
# Seconds after which a process that was told to leave is killed: what its task modules have registered with atexit may
# take as long.
LEAVE_S = 3.0


class Call(Message, frozen=True, tag=True):
    """Run a task.

    ``number`` identifies the call in its pool. A payload of ``payload_bytes`` comes after the
    frame: JSON, or content of ``media_type``.
    """

    number: int
    task: str
    payload_bytes: int
    job_id: str
    attempt: int
    media_type: str = ""
    traceparent: str | None = None


class Ready(Message, frozen=True, tag=True):
    """The process can take calls: the task modules are imported, and the lifespan has begun.

    In a trial it takes none, and no lifespan has begun.
    """


class Broken(Message, frozen=True, tag=True):
    """The process cannot serve: its confinement, an import or the lifespan failed, with this error."""

    error: str


class Progress(Message, frozen=True, tag=True):
    """The task of this call reports its progress, and a message beside it."""

    number: int
    # A task may write to the pipe itself. So the bounds of ``context.progress`` hold here, too.
    percent: Annotated[int, Meta(ge=0, le=100)]
    message: Annotated[str, Meta(max_length=MESSAGE_MOST)] = ""


class Done(Message, frozen=True, tag=True):
    """The task of this call returned. A body of ``body_bytes`` comes after it, none for None.

    ``memory_bytes`` is the memory that the process takes now. ``spent``: it has too little CPU time left for another
    call. ``left``: a program may still write to the pipe of the output, so the next call needs another one.
    """

    number: int
    memory_bytes: int
    body_bytes: int | None
    media_type: str
    spent: bool = False
    left: bool = False


class Failed(Message, frozen=True, tag=True):
    """The task of this call raised an error: a ``fault`` of its own, or a ResultError.

    Or it was not called, because its payload does not fit. ``told`` has the members of a Failure
    (core/tasks/failure.py).
    """

    number: int
    memory_bytes: int
    fault: Literal["task", "result", "payload"]
    failure: Failure
    spent: bool = False
    left: bool = False


class Log(Message, frozen=True, tag=True):
    """A log record of the process, cut as all records are. ``job_id`` is empty if no job ran."""

    logger: str
    level: int
    # Seconds since the epoch.
    created: Annotated[float, Meta(ge=0, lt=CREATED_BEFORE)]
    message: str
    stack: str
    job_id: str
    task: str
    attempt: int


FromChild = Ready | Broken | Progress | Done | Failed | Log

decode_call = msgspec.msgpack.Decoder(Call).decode
decode = msgspec.msgpack.Decoder(FromChild).decode
