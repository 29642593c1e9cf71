"""A job and its life-cycle.

MOVES is the one table of legal moves; the board refuses every other, and docs/protocol.md draws it. EXPIRED is
never written: it is what a reader is told of a job whose row has aged or has been used again.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

import msgspec
from headway.core.task import DEADLINE_LONGEST_S, RETRIES_MOST, Task
from msgspec import Meta


class State(IntEnum):
    """Where a job stands; the value is the low byte of its row's live word."""

    EMPTY = 0
    SCHEDULED = 1
    QUEUED = 2
    RUNNING = 3
    RETRYING = 4
    SUCCEEDED = 5
    FAILED = 6
    CANCELLED = 7
    EXPIRED = 8


MOVES: dict[State, frozenset[State]] = {
    State.EMPTY: frozenset({State.SCHEDULED, State.QUEUED}),
    State.SCHEDULED: frozenset({State.QUEUED, State.FAILED, State.CANCELLED}),
    State.QUEUED: frozenset({State.RUNNING, State.FAILED, State.CANCELLED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.RETRYING, State.FAILED, State.CANCELLED}),
    State.RETRYING: frozenset({State.QUEUED, State.FAILED, State.CANCELLED}),
    State.SUCCEEDED: frozenset({State.EXPIRED}),
    State.FAILED: frozenset({State.EXPIRED}),
    State.CANCELLED: frozenset({State.EXPIRED}),
    State.EXPIRED: frozenset(),
}

WAITING = frozenset({State.SCHEDULED, State.QUEUED, State.RETRYING})
ACTIVE = WAITING | {State.RUNNING}
TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


class Reason(IntEnum):
    """Why a job failed."""

    NONE = 0
    ERROR = 1
    TIMEOUT = 2
    CRASHED = 3
    DEADLINE = 4


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client asks for. Times in seconds; None: as the task says, else as config.yaml says."""

    task: Annotated[str, Meta(min_length=1, max_length=200)]
    payload: msgspec.Raw = msgspec.Raw(b"null")
    # 9 is taken first.
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    delay: Annotated[float, Meta(ge=0, le=30 * 86_400)] = 0.0
    timeout: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    deadline: Annotated[float, Meta(gt=0, le=DEADLINE_LONGEST_S)] | None = None
    retries: Annotated[int, Meta(ge=0, le=RETRIES_MOST)] | None = None


class Job(msgspec.Struct, gc=False):
    """What must be known of a job while it is active; its row on the board holds the rest."""

    sequence: int
    task: Task
    # JSON, as the client sent it.
    payload: bytes
    # Seconds an attempt may take.
    timeout_s: float
    # When the job fails whatever it does, of time.monotonic; infinity for never.
    deadline: float
    # Attempts after the first.
    retries: int
    # The batch it came in, as ``batches.word`` has it; 0 for none.
    batch: int = 0
