"""The facts about a job or a batch, as of one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

FINISHED = frozenset({"succeeded", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class AttemptStatus:
    """An attempt of a job. The last one may still run, and has not ended then."""

    # From 1.
    number: int
    started: datetime | None
    ended: datetime | None
    # loop, thread or process.
    place: str | None
    # running, succeeded, failed, interrupted and others.
    outcome: str
    # The kind of failure, the type of the error, the error as text, and its traceback.
    reason: str | None = None
    error_type: str | None = None
    error: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """A job. A member that the answer did not tell is None."""

    id: str
    # scheduled, queued, running, retrying, succeeded, failed, cancelled or expired.
    state: str
    attempt: int | None = None
    # Per cent, of a running job whose task reports it.
    progress: int | None = None
    # Jobs that are ahead of it.
    position: int | None = None
    # The kind of failure, and the error as text.
    reason: str | None = None
    detail: str | None = None
    # Seconds until it is worth asking again.
    retry_after: float | None = None
    task: str | None = None
    tags: tuple[str, ...] = ()
    # The last message of the running attempt.
    message: str | None = None
    # The attempts that ended, and the one that runs. Known of an answer to GET.
    attempts: tuple[AttemptStatus, ...] = ()
    # How many failed attempts between are no longer kept.
    attempts_left_out: int = 0
    # Why the job waits although a worker is free: its task is on hold.
    held: str | None = None
    submitted: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    # Until when the server keeps a finished job.
    kept_until: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether the job has ended, in any way."""
        return self.state in FINISHED


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server: its version, and the version of the contract that it keeps (docs/compatibility.md)."""

    version: str
    contract: int


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """A batch: how many of its jobs are in which state."""

    id: str
    pending: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    # State by id, of the jobs that are still kept.
    jobs: Mapping[str, str] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether no job is pending."""
        return not self.pending


@dataclass(frozen=True, slots=True)
class Span:
    """What was done in a span of time. A count is None if the server did not run, a time if nothing began or ended."""

    begin: datetime | None
    # Jobs that ended in it, and attempts that were made again.
    succeeded: int | None = None
    failed: int | None = None
    cancelled: int | None = None
    retries: int | None = None
    # Jobs at its end.
    waiting: int | None = None
    running: int | None = None
    # Seconds by p50, p95 and p99: attempts that began had been ready for so long, and that ended took so long.
    wait: Mapping[str, float | None] = field(default_factory=dict)
    run: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class History:
    """The last hours in equal spans of time. The last one is not over."""

    # Of a span.
    seconds: int
    spans: tuple[Span, ...]
    # By the name of a task, span by span: the jobs that ended, and those of them that failed.
    ended: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    failed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the audit log: a change that a client, or the server itself, has made."""

    number: int
    time: datetime | None
    # The operation, such as cancelJob.
    what: str
    # The name of the token. None: there was none.
    who: str | None = None
    # Of the client. None: it came by a Unix socket.
    address: str | None = None
    # The id or the key of a job, the id of a batch, the name of a task.
    target: str | None = None
    # Of an order, as the query of a URL.
    filter: str | None = None
    # Jobs of a batch that were cancelled.
    count: int | None = None
    # The id of the job that was made: a resubmitted one, or the order.
    job: str | None = None
    # Of the answer. 202: the change went on after it.
    code: int | None = None


@dataclass(frozen=True, slots=True)
class TaskSwitches:
    """The switches of a task, which ``hold``, ``resume``, ``close_intake`` and ``open_intake`` turn."""

    task: str
    # run, or hold: waiting jobs are not started.
    dispatch: str
    # open, or closed: new jobs are refused.
    intake: str
    # When the task runs and takes jobs again by itself.
    until: datetime | None = None
    # As the person gave it.
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Matches:
    """The jobs that an order about many would be about, as of a dry run."""

    matches: int
    # Jobs by the name of the task.
    by_task: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobEvent:
    """A move of a job, or ``reset``: events before it were missed."""

    # state or reset.
    kind: str
    # The place in the stream, for ``after``.
    event_id: str | None
    # The id of the job. This and all up to ``time`` is None in a reset.
    id: str | None = None
    task: str | None = None
    state: str | None = None
    attempt: int | None = None
    tags: tuple[str, ...] = ()
    reason: str | None = None
    time: datetime | None = None
    # Of a reset: how many events of all jobs were missed, if the server knows.
    missed: int | None = None

    @property
    def finished(self) -> bool:
        """Whether the job has ended by this event."""
        return self.state in FINISHED


class LogText(str):
    """A part of the log of a job: text that knows its place, in bytes of the whole log."""

    __slots__ = ("end", "start", "state")
    # Of the first byte, and behind the last one. Text before ``start`` may be left out.
    start: int
    end: int
    # The state of the job at that time.
    state: str

    def __new__(cls, text: str, start: int, end: int, state: str) -> LogText:
        """Make it of its text and its place."""
        made = super().__new__(cls, text)
        made.start, made.end, made.state = start, end, state
        return made
