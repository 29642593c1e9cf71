"""All facts about a job, a batch or a task at one moment."""

from __future__ import annotations

from typing import Any

import msgspec
from headway.core.hold import NO_HOLD, TaskHold
from headway.core.job import Reason, State
from headway.core.load import Load
from headway.core.stats import Histogram


class Status(msgspec.Struct, gc=False):
    """All facts about a job at one moment. Times are of time.time, in seconds. 0.0: not yet."""

    state: int
    sequence: int
    # ASCII.
    id: bytes
    task: str
    attempt: int
    # Per cent. None: the job has reported none.
    progress: int | None
    # Jobs that will be taken before this one. 0 if it does not wait.
    position: int
    # Milliseconds until the client asks again. 0 if the job has finished.
    retry_after_ms: int
    submitted: float
    started: float
    ended: float
    reason: int
    tags: tuple[str, ...] = ()
    # Beside the progress of a running attempt.
    message: str = ""
    # The reason why its task is held, if the job waits for that. None: it does not.
    held: str | None = None
    # Until when a finished job is kept, at the longest.
    kept_until: float = 0.0


COUNT_MOST = 1000


class BatchStatus(msgspec.Struct, gc=False):
    """All facts about a batch at one moment."""

    id: bytes
    first: int
    count: int
    # Its jobs that have not finished, succeeded, failed and were cancelled: ``count`` in all. Zeros
    # once the batch is gone.
    pending: int
    succeeded: int
    failed: int
    cancelled: int
    # Jobs without a status of their own any longer.
    expired: int
    # Milliseconds until the client asks again. 0 if no job is pending.
    retry_after_ms: int

    @property
    def state(self) -> State:
        """RUNNING while any job is pending, EXPIRED once none can be read.

        Otherwise FAILED if any job failed, else CANCELLED if any was cancelled, else SUCCEEDED.
        """
        if self.pending:
            return State.RUNNING
        if self.expired == self.count:
            return State.EXPIRED
        if self.failed:
            return State.FAILED
        return State.CANCELLED if self.cancelled else State.SUCCEEDED


class TaskStatus(msgspec.Struct, gc=False):
    """All facts about a task at one moment. Times in seconds."""

    name: str
    # The first line of its docstring.
    description: str
    # JSON Schema of its payloads. Empty: they may be anything.
    schema: dict[str, Any]
    timeout_s: float
    deadline_s: float | None
    retries: int
    # None: as long as others of their outcome.
    keep_s: float | None
    max_concurrent: int | None
    # "loop", "thread" or "process".
    run_in: str
    # Its jobs that have not finished, and their attempts that are under way.
    unfinished: int
    running: int
    # Its jobs that ever ended, with a journal or over deploys. Otherwise since the process began.
    succeeded: int
    failed: int
    cancelled: int
    # Of its last run times. 0.0: none is known.
    run_median_s: float
    load: Load
    # ``wait``: from ready to the start of an attempt. ``run``: from its start to its end.
    wait: Histogram
    run: Histogram
    # Its switches.
    hold: TaskHold = NO_HOLD


def bare(state: State, sequence: int, job_id: bytes) -> Status:
    """Return the status of a job of which nothing else is known."""
    return Status(
        state=state,
        sequence=sequence,
        id=job_id,
        task="",
        attempt=0,
        progress=None,
        position=0,
        retry_after_ms=0,
        submitted=0.0,
        started=0.0,
        ended=0.0,
        reason=Reason.NONE,
    )
