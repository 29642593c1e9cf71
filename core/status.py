"""What can be said of a job, and of a batch, at one moment."""

from __future__ import annotations

import msgspec
from headway.core.job import Reason, State


class Status(msgspec.Struct, gc=False):
    """What can be said of a job at one moment. Times are of time.monotonic, in seconds; 0.0: not yet."""

    state: int
    sequence: int
    # ASCII.
    id: bytes
    task: str
    attempt: int
    # Percent, or None where the job has not reported any.
    progress: int | None
    # Jobs that will be taken before this one; 0 where it is not queued.
    position: int
    # When to ask again; 0 where the job is over.
    retry_after_ms: int
    submitted: float
    started: float
    ended: float
    reason: int


COUNT_MOST = 1000


class BatchStatus(msgspec.Struct, gc=False):
    """What can be said of a batch at one moment."""

    id: bytes
    first: int
    count: int
    # How many of its jobs are not over, succeeded, failed, and were cancelled: ``count`` in all. Zeros when it is gone.
    pending: int
    succeeded: int
    failed: int
    cancelled: int
    # Of how many the own status can no longer be read.
    expired: int
    # When to ask again; 0 where no job is pending.
    retry_after_ms: int

    @property
    def state(self) -> State:
        """RUNNING while any job is pending, EXPIRED once none can be read; else FAILED, CANCELLED if any job is."""
        if self.pending:
            return State.RUNNING
        if self.expired == self.count:
            return State.EXPIRED
        if self.failed:
            return State.FAILED
        return State.CANCELLED if self.cancelled else State.SUCCEEDED


def bare(state: State, sequence: int, job_id: bytes) -> Status:
    """Return the status of a job of which nothing else is known."""
    return Status(state, sequence, job_id, "", 0, None, 0, 0, 0.0, 0.0, 0.0, Reason.NONE)
