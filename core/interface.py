"""The calls of every engine: the protocol's only view of one.

A call that changes what others have submitted takes an ``Act``, and has it kept in the audit log
once the change is made.

A call that can answer at once returns its value. A call that has to wait, for a disk or for the end
of a job, returns ``Later``. The call, or ``Later.value``, raises errors: each is a HeadwayError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import BinaryIO, Generic, Protocol, TypeAlias, TypeVar, Union

import msgspec
from headway.core.audit import Act, AuditEntry
from headway.core.body import Body
from headway.core.durability import Durability
from headway.core.events import EventFilter, Portion
from headway.core.history import Minute
from headway.core.hold import Switches, TaskHold
from headway.core.job import Revision, Submission
from headway.core.job_filter import JobFilter
from headway.core.job_log import JobLog
from headway.core.key import Key
from headway.core.order import Action
from headway.core.past_attempt import PastAttempt
from headway.core.stats import Counts
from headway.core.status import BatchStatus, Status, TaskStatus
from headway.core.tasks.result import Result

Value = TypeVar("Value")
# A job that comes later is also a job or None that comes later.
Coming = TypeVar("Coming", covariant=True)


class Later(Generic[Coming]):
    """A value that is not known yet."""

    __slots__ = ()

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called once, when ``value`` has its answer. Call this once, in the turn that made this."""
        raise NotImplementedError

    def value(self) -> Coming:
        """Return the value, after ``wake`` was called. Raises the HeadwayError that came instead."""
        raise NotImplementedError

    def hurry(self) -> None:
        """Wake now where that is possible: the client sends no more, and may have gone."""

    def cancel(self) -> None:
        """Do not wake: the client has gone. A change that was asked for is made all the same, a read is given up."""


class Feed:
    """Events as they come, for one reader. It holds a place among the events, and no event."""

    __slots__ = ()
    # Whether it goes on from the event that was asked for, so that no event between is missed.
    resumed: bool

    @property
    def place(self) -> int:
        """The number of the last event that the reader has taken, or that was none for it."""
        raise NotImplementedError

    def when_more(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when there is something to take, and not again until it was taken."""
        raise NotImplementedError

    def take(self) -> Portion:
        """Return the next events that are wanted, some at a time. It may be called at any time."""
        raise NotImplementedError

    def close(self) -> None:
        """Do not wake: the reader has gone."""
        raise NotImplementedError


# The most batches of a list, and the most characters of an error in a list of jobs.
LISTED_MOST = 200
ERROR_LONGEST = 300

# Known now, or later.
Soon: TypeAlias = Union[Value, Later[Value]]  # noqa: UP007 — a type alias over a variable


class Submitted(msgspec.Struct, gc=False):
    """An accepted job. ``replayed``: it was accepted before, under the same key."""

    status: Status
    replayed: bool = False


class SubmittedBatch(msgspec.Struct, gc=False):
    """An accepted batch. ``replayed``: it was accepted before, under the same key."""

    status: BatchStatus
    replayed: bool = False


class Cancel(Enum):
    """The effect of a cancellation."""

    # The job waited, and never ran.
    DROPPED = "dropped"
    # The job was running, and is being interrupted.
    ASKED = "asked"
    # The job had finished, and its result is forgotten.
    FORGOTTEN = "forgotten"
    # The job was cancelled before, or has expired.
    NOTHING = "nothing"


class Cancelled(msgspec.Struct, gc=False):
    """The outcome of a job's cancellation."""

    status: Status
    how: Cancel


class CancelledBatch(msgspec.Struct, gc=False):
    """The outcome of a batch's cancellation. ``running``: some of its jobs are being interrupted."""

    status: BatchStatus
    running: bool


class Page(msgspec.Struct, gc=False):
    """Jobs, newest first, and the cursor of the next page; None at the end."""

    jobs: list[Status]
    after: int | None


class Accepts(msgspec.Struct, gc=False):
    """The content that a task accepts."""

    # Whether JSON is decoded for it, and whether it takes other content as it is.
    json: bool
    content: bool
    # None: limits.body_bytes.
    body_bytes: int | None


class PolledRows(Protocol):
    """The columns of the board that a poll reads, by row (core/board/rows.py)."""

    rows: int
    live: memoryview[int]
    tag: memoryview[int]
    submitted: memoryview[float]
    started: memoryview[float]
    ended: memoryview[float]
    task: memoryview[int]
    place: memoryview[int]
    kept_until: memoryview[float]
    # By the outcome of a job: the place of the one that ended so last, and how many are kept.
    last_place: memoryview[int]
    kept_jobs: tuple[int, ...]


class PolledPromises(Protocol):
    """When clients poll again (core/retry_after/promises.py)."""

    # The tasks that are held, by index.
    held: Mapping[int, TaskHold]

    def ahead(self, row: int) -> int:
        """Return how many jobs will be taken before the queued one in ``row``."""

    def retry_after_ms(self, row: int, word: int, ahead: int, now: float) -> int:
        """Return the milliseconds until the client polls again, and promise it that poll."""


class Polled(Protocol):
    """The rows of an engine that has them in this process, for the loop that answers polls."""

    # The beginning of all ids of this engine.
    marker: bytes

    @property
    def board(self) -> PolledRows:
        """The columns."""

    @property
    def promises(self) -> PolledPromises:
        """The times of the next polls."""

    @property
    def messages(self) -> Mapping[int, str]:
        """The messages beside the progress of running jobs, by sequence number."""


class Engine(Protocol):
    """Accepts jobs, runs them, and knows their outcomes. All times in seconds."""

    # None if no rows are in this process.
    polled: Polled | None

    @property
    def durability(self) -> Durability:
        """The promise of the answer to a submission, which leaves once that is so.

        Unless it is "memory", a job outlives this process.
        """

    @property
    def not_ready(self) -> str | None:
        """Why no new jobs are wanted here; None if they are."""

    @property
    def waiting(self) -> int:
        """How many clients wait for a job or a batch at this moment."""

    def peek(self, job_id: bytes, brief: bool = False) -> Soon[Status | None]:
        """Return the status of a job, or None if it was never issued. Raises MisdirectedError.

        A ``brief`` one may lack the tags, of which a HEAD tells nothing.
        """

    def peek_key(self, key: str) -> Soon[Status | None]:
        """Return the status of the job under a key, or None if the key has none."""

    def peek_batch(self, batch_id: bytes) -> Soon[BatchStatus | None]:
        """Return the status of a batch, or None if it was never issued. Raises MisdirectedError."""

    def find(self, wanted: JobFilter, after: int, limit: int) -> Soon[Page]:
        """Return up to ``limit`` jobs that fit ``wanted``, newest first.

        ``after`` is the cursor of a page, 0 for the newest. A page may be shorter, or empty,
        although more follow: a call looks for a bounded time. Raises UnknownTaskError.
        """

    def recent_batches(self) -> Soon[Sequence[BatchStatus]]:
        """Return the last batches of which a job can still be read, newest first, at most LISTED_MOST.

        Those that had finished when the engine began may be missing.
        """

    def list_batch(self, batch: BatchStatus) -> Soon[Sequence[tuple[bytes, int]]]:
        """Return (id, state) of each job of a batch that can still be read, in the order of their submission."""

    def tasks(self) -> Soon[Sequence[TaskStatus]]:
        """Return the declared tasks, with the counts of their jobs."""

    def task(self, name: str) -> Soon[TaskStatus | None]:
        """Return a declared task as ``tasks`` does, None for an unknown one."""

    def accepts(self, task: str) -> Accepts | None:
        """Return the content that a task accepts, None for an unknown task."""

    def switch(self, task: str, switches: Switches, act: Act | None = None) -> Soon[TaskStatus | None]:
        """Change the switches of a task, and return it. None: no such task is declared.

        While it is held none of its jobs begins, and while it is closed none is accepted. Raises
        InvalidError or JournalFullError. Then nothing was changed.
        """

    def revise(self, status: Status, revision: Revision, act: Act | None = None) -> Soon[Status]:
        """Change the priority or the delay of a job that waits, and return its status.

        Raises NotWaitingError, InvalidError or JournalFullError. Then nothing was changed.
        """

    def errors(self, jobs: Sequence[Status]) -> Soon[Mapping[int, str]]:
        """Return the errors of those of ``jobs`` that failed and whose error is kept, by their number.

        Each is cut to ERROR_LONGEST characters.
        """

    def result(self, status: Status) -> Soon[Result | None]:
        """Return the result of a finished job, or the error of a failed one, or None if it is not kept."""

    def payload(self, status: Status) -> Soon[Body | None]:
        """Return the payload of a job as it was sent, or None if it is not kept, as after a success."""

    def attempts(self, status: Status) -> Soon[Sequence[PastAttempt]]:
        """Return the attempts at a job in their order: those that failed, and the last one.

        Not all of them, if they were many, were given up, or were deleted with the result. One that
        was cut off by the end of the server is made again under the same number.
        """

    def log(self, status: Status) -> Soon[JobLog]:
        """Return the log of a job: empty if it has logged nothing. All that is returned outlives what a job does."""

    def wait_log(self, status: Status, length: int, seconds: float) -> Later[Status]:
        """Return the status of an active job once its log has more than ``length`` bytes, or as ``wait`` does."""

    def wait(self, status: Status, seconds: float) -> Later[Status]:
        """Return the status of an active job once it has finished, in ``seconds``, or at a drain."""

    def wait_batch(self, batch: BatchStatus, seconds: float) -> Later[BatchStatus]:
        """Return the status of a pending batch once all its jobs have finished, or as ``wait`` does."""

    def watch(self, wanted: EventFilter, after: int | None = None) -> Soon[Feed]:
        """Return the events that fit ``wanted``, from now on, or those after the event ``after``.

        Only the last events are kept, and those of an earlier start are not: see ``Feed.resumed``.
        A status that is read once the feed is known is no older than its place.
        Raises UnknownTaskError or StreamsFullError.
        """

    def check_room(self, count: int = 1, payload_bytes: int = 0) -> None:
        """Raise DrainingError, JournalFullError or QueueFullError if ``count`` jobs would be refused now.

        An engine that shares its queue with others goes by the last counts that it knows.
        """

    def replay(self, key: Key) -> Soon[Submitted | None]:
        """Return the job that was accepted under ``key``, or None if none was. Raises KeyReusedError."""

    def replay_batch(self, key: Key) -> Soon[SubmittedBatch | None]:
        """Return the batch that was accepted under ``key``, or None if none was. Raises KeyReusedError."""

    def submit(self, submission: Submission, key: Key | None = None) -> Soon[Submitted]:
        """Accept a job, or return the job that was accepted under ``key``.

        Raises UnknownTaskError, InvalidPayloadError, TaskClosedError, NotDurableError,
        KeyReusedError, or as ``check_room`` does. Then nothing was changed.
        """

    def submit_batch(self, submissions: Sequence[Submission], key: Key | None = None) -> Soon[SubmittedBatch]:
        """Accept 1 to 1,000 jobs as a batch, all or none. Raises as ``submit`` does."""

    def retry(self, status: Status, key: Key | None = None, act: Act | None = None) -> Soon[Submitted]:
        """Resubmit a failed job as a new job. Raises NotFailedError, PayloadGoneError, or as ``submit`` does.

        So it does if the payload no longer fits the task.
        """

    def order(
        self, action: Action, wanted: JobFilter, key: Key | None = None, act: Act | None = None
    ) -> Soon[Submitted]:
        """Accept an order: a job that retries, cancels or deletes all jobs that fit ``wanted`` now.

        Its result is ``{"matched": …, "done": …, "skipped": …}``. Raises InvalidError for a filter
        of all jobs, or of states that ``action`` is not about, UnknownTaskError, KeyReusedError,
        DrainingError, JournalFullError or OrdersFullError. Then nothing was changed.
        """

    def count_meant(self, action: Action, wanted: JobFilter) -> Soon[Mapping[str, int]]:
        """Return how many jobs such an order would be about, by the name of their task. Raises as ``order`` does."""

    def cancel(self, status: Status, act: Act | None = None) -> Soon[Cancelled]:
        """End an active job, or forget the result of a finished one. Raises JournalFullError."""

    def cancel_batch(self, batch: BatchStatus, act: Act | None = None) -> Soon[CancelledBatch]:
        """End the active jobs of a batch. Raises JournalFullError."""

    def note(self, act: Act) -> None:
        """Keep an act of the server itself in the audit log. Nobody waits for it."""

    def audit(self, before: int, limit: int) -> Soon[Sequence[AuditEntry]]:
        """Return up to ``limit`` entries of the audit log with lower numbers than ``before``, newest first.

        0: from the newest on.
        """

    def retry_after_s(self, seconds: float = 1.0) -> float:
        """Return the seconds until there is room for a request, and promise that room.

        They are ``seconds`` or a little more.
        """

    def history(self, minutes: int) -> Soon[Sequence[Minute]]:
        """Return the last ``minutes``, oldest first, the present one at the end. Some may be missing."""

    def counts(self) -> Soon[Counts]:
        """Return the engine's counts."""

    async def start(self, on_fatal: Callable[[str], object]) -> None:
        """Enter the lifespan of the tasks and begin to run jobs, on the running loop.

        ``on_fatal`` gets a line when no job can be kept any more. Raises ConfigError if the
        lifespan raises, or if no worker process can start. Then the engine can be started again,
        handed over, or closed.
        """

    async def drain(self, timeout_s: float, keeps_clients: bool = False) -> int:
        """Refuse new jobs and wait for those that have to finish.

        Return the number that have not finished after ``timeout_s``. If the front ``keeps_clients``, a
        deploy goes on: jobs are accepted, and wait for the next program.
        """

    def resume(self) -> None:
        """Accept jobs again after a drain that did not lead to an end."""

    def hand_over(self, file: BinaryIO) -> int | None:
        """Write to ``file`` all that the next process goes on from besides the rows, and return the file of the rows.

        None: jobs outlive this process, and nothing was written. Call it last of all: later changes
        are lost. Raises RuntimeError if a job runs.
        """

    async def stop(self) -> None:
        """End workers, timers and chores, and leave the lifespan. All facts can still be read."""

    async def close(self) -> None:
        """Release files and connections."""
