"""A job and its life-cycle.

MOVES is the one table of legal moves; the board refuses every other, and docs/protocol.md draws it. EXPIRED is
never written: it is what a reader is told of a job whose row has aged or has been used again.
"""

from __future__ import annotations

from enum import IntEnum
from math import inf
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


class Terms(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The terms of a job besides its task, payload and priority, as submitted or by default. Times in seconds."""

    # Of an attempt.
    timeout_s: float
    # Attempts after the first.
    retries: int
    # From the submission to the end of the last attempt; None for no end.
    deadline_s: float | None = None

    @classmethod
    def of(cls, submission: Submission, task: Task, timeout_s: float, retries: int) -> Terms:
        """Return the terms of a submission; the last two hold where neither it nor its task says otherwise."""
        own = submission.retries if submission.retries is not None else task.retries
        return cls(
            submission.timeout or task.timeout_s or timeout_s,
            retries if own is None else own,
            submission.deadline or task.deadline_s,
        )

    def end(self, submitted: float) -> float:
        """Return when a job fails that was submitted at a time, whatever it does; infinity for never."""
        return inf if self.deadline_s is None else submitted + self.deadline_s


# The terms as a journal keeps them: JSON, so that SQL can migrate them.
encode_terms = msgspec.json.Encoder().encode
decode_terms = msgspec.json.Decoder(Terms).decode


class Job(msgspec.Struct, gc=False):
    """What must be known of a job while it is active; its row on the board holds the rest."""

    sequence: int
    task: Task
    # JSON, as the client sent it.
    payload: bytes
    terms: Terms
    # When the job fails whatever it does, of time.monotonic; infinity for never.
    deadline: float
    # The batch it came in, as ``batches.word`` has it; 0 for none.
    batch: int = 0
