"""Letting jobs in: the checks before a job is accepted, and its making."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from headway.core.acceptance import check_promise, ends_to_free, misfits
from headway.core.board.idempotency import Keyed
from headway.core.board.outcomes import batch_number
from headway.core.durability import Durability
from headway.core.errors import (
    DrainingError,
    InvalidPayloadError,
    JournalFullError,
    KeyReusedError,
    NotFailedError,
    PayloadGoneError,
    PayloadsFullError,
    QueueFullError,
    TaskClosedError,
    UnknownTaskError,
)
from headway.core.faults import few, not_one_of
from headway.core.hold import OPEN_END_S
from headway.core.job import Job, State, Submission, Terms, decode_terms
from headway.core.key import Key
from headway.core.local.active import Active
from headway.core.retry_after.estimate import SUCCESSOR_S
from headway.core.status import Status
from headway.core.task import RETRIES_MOST, Task
from headway.core.tasks.payloads import check
from headway.core.tasks.registry import Registry

if TYPE_CHECKING:
    from headway.core.journal.reader import Saved

# Members of an enum cost several times as much to look up (CPython 3.11).
EMPTY, SCHEDULED, QUEUED = State.EMPTY, State.SCHEDULED, State.QUEUED


class Admission:
    """Accepts jobs into ``active``, for the tasks of ``registry``."""

    def __init__(self, active: Active, registry: Registry, promised: Durability) -> None:
        self._registry = registry
        self._promised: Durability = promised
        self._ids = active.ids
        self._board = active.board
        self._active = active
        self._payloads_most = active.config.queue.max_bytes
        # The terms of a submission that names none, by the index of its task.
        jobs = active.config.jobs
        self._terms = [Terms.usual(task, jobs.timeout, jobs.retries) for task in registry.tasks]
        self.draining = False

    def accept(self, submission: Submission, now: float, key: Key | None = None) -> int:
        """Accept a job and return its number.

        With a journal its row is EMPTY until its submission is committed. Raises UnknownTaskError,
        InvalidPayloadError, NotDurableError, TaskClosedError, or as ``check_room`` does. Then nothing was changed.
        """
        task = self._registry.by_name.get(submission.task)
        if task is None:
            raise UnknownTaskError([("task", not_one_of(repr(submission.task), self._registry.by_name))])
        if task.payload_type is not None:
            check(submission.payload, task.payload_type, submission.media_type)
        if submission.durability is not None:
            check_promise(submission.durability, self._promised)
        active = self._active
        if active.holds.closed:
            self._check_open(task)
        queue, size_bytes = active.queue, len(submission.payload)
        if (
            self.draining
            or active.changes.full
            or queue.room < 1
            or queue.payload_bytes + size_bytes > self._payloads_most
        ):
            self.check_room(1, size_bytes)
        state = EMPTY if active.changes.unseen else SCHEDULED if submission.delay else QUEUED
        sequence = self._board.open(state, self._ids.tag, task.index, submission.priority, now)
        queue.payload_bytes += size_bytes
        active.changes.begin(self._job(sequence, task, submission, now), submission.delay, now, key)
        return sequence

    def accept_own(self, task: Task, payload: bytes, now: float, key: Key | None) -> int:
        """Accept a job of ``task``, one of the server's own, also if the queue is full. Return its number.

        Raises DrainingError or JournalFullError.
        """
        active = self._active
        if self.draining or active.changes.full:
            self.check_room()
        state = EMPTY if active.changes.unseen else QUEUED
        sequence = self._board.open(state, self._ids.tag, task.index, Submission(task.name).priority, now)
        active.queue.payload_bytes += len(payload)
        terms = Terms(task.timeout_s or 0.0, RETRIES_MOST)
        active.changes.begin(Job(sequence, task, payload, terms, inf), 0.0, now, key)
        return sequence

    def accept_batch(self, submissions: Sequence[Submission], now: float, key: Key | None = None) -> int:
        """Accept 1 to 1,000 jobs as a batch, all or none, and return the number of the first.

        They are committed together. Raises UnknownTaskError or InvalidPayloadError, with a fault by
        index for each, NotDurableError, TaskClosedError, or as ``check_room`` does. Then nothing was changed.
        """
        known = self._registry.by_name
        unknown = ((index, wanted) for index, wanted in enumerate(submissions) if wanted.task not in known)
        faults = few((f"[{index}].task", not_one_of(repr(wanted.task), known)) for index, wanted in unknown)
        if faults:
            raise UnknownTaskError(faults)
        tasks = [known[submission.task] for submission in submissions]
        faults = few(misfits(submissions, known))
        if faults:
            raise InvalidPayloadError(faults)
        for demanded in dict.fromkeys(submission.durability for submission in submissions):
            check_promise(demanded, self._promised)
        active, count = self._active, len(submissions)
        if active.holds.closed:
            for task in dict.fromkeys(tasks):
                self._check_open(task)
        payload_bytes = sum(len(submission.payload) for submission in submissions)
        self.check_room(count, payload_bytes)
        first = self._board.open_many(
            [
                EMPTY if active.changes.unseen else SCHEDULED if submission.delay else QUEUED
                for submission in submissions
            ],
            self._ids.tags(self._board.next_sequence, count),
            [task.index for task in tasks],
            [submission.priority for submission in submissions],
            now,
        )
        batch = batch_number(first, count)
        active.queue.payload_bytes += payload_bytes
        with active.changes.together():
            for sequence, (task, submission) in enumerate(zip(tasks, submissions, strict=True), first):
                job = self._job(sequence, task, submission, now, batch)
                active.changes.begin(job, submission.delay, now, key)
                # The key stands for the batch, and is kept with the first of its jobs.
                key = None
        return first

    def _check_open(self, task: Task) -> None:
        """Raise TaskClosedError if a person has closed ``task``."""
        hold = self._active.holds.closed.get(task.index)
        if hold is not None:
            seconds = OPEN_END_S if hold.until is None else max(hold.until - time.time(), 0.0)
            raise TaskClosedError(task.name, hold.reason, self._active.estimate.later(seconds, time.monotonic()))

    def _job(self, sequence: int, task: Task, submission: Submission, now: float, batch: int = 0) -> Job:
        """Return the job of a submission that has its row."""
        terms = self._terms[task.index]
        own = submission.retries is not None or submission.timeout is not None or submission.deadline is not None
        if own or submission.media_type or submission.traceparent or submission.tags or submission.keep:
            # All other jobs of the task share one object, for their memory.
            terms = terms.of(submission)
        return Job(sequence, task, bytes(submission.payload), terms, terms.end(now), batch=batch)

    def keyed(self, key: Key) -> Keyed | None:
        """Return the job, or the batch, that came under ``key``, or None if none did.

        Raises KeyReusedError if it came with other content.
        """
        keyed = self._active.keys.get(key.text, time.monotonic())
        if keyed is not None and keyed.digest != key.digest:
            raise KeyReusedError
        return keyed

    def resubmit(self, status: Status, saved: Saved | None, now: float, key: Key | None = None) -> int:
        """Accept a failed job as a new one and return its number.

        ``saved`` is the journal's copy of it. Raises NotFailedError, PayloadGoneError,
        InvalidPayloadError, TaskClosedError, or as ``check_room`` does. Then nothing was changed.
        """
        if status.state != State.FAILED:
            raise NotFailedError
        old = self._failed(status, saved)
        if old is None:
            raise PayloadGoneError
        if old.task.payload_type is not None:
            # The task may have changed since.
            check(old.payload, old.task.payload_type, old.terms.media_type)
        self._check_open(old.task)
        self.check_room(1, len(old.payload))
        active, board = self._active, self._board
        row = board.row(status.sequence)
        if row < 0:
            # It left the board while its payload was read.
            raise PayloadGoneError
        state = EMPTY if active.changes.unseen else QUEUED
        sequence = board.open(state, self._ids.tag, old.task.index, board.priority[row], now)
        active.queue.payload_bytes += len(old.payload)
        active.changes.begin(Job(sequence, old.task, old.payload, old.terms, old.terms.end(now)), 0.0, now, key)
        return sequence

    def _failed(self, status: Status, saved: Saved | None) -> Job | None:
        """Return a failed job as it was submitted.

        None if it is not kept, or if no module declares its task: orders of a person are no submissions.
        """
        task = self._registry.by_name.get(status.task)
        if task is None:
            return None
        kept = self._active.results.get(status.sequence)
        if kept is not None and kept.job is not None:
            return kept.job
        if saved is None or saved.payload is None:
            return None
        return Job(saved.sequence, task, saved.payload, decode_terms(saved.terms), inf)

    def check_room(self, count: int = 1, payload_bytes: int = 0) -> None:
        """Raise DrainingError, JournalFullError or QueueFullError if ``count`` jobs would be refused now.

        ``payload_bytes`` is the size of their payloads together.
        """
        if self.draining:
            raise DrainingError(self._active.estimate.later(SUCCESSOR_S, time.monotonic()))
        if self._active.changes.full:
            raise JournalFullError
        queue, estimate = self._active.queue, self._active.estimate
        if queue.room < count:
            retry_after_s = estimate.for_places(min(count, queue.size) - queue.room, time.monotonic())
            raise QueueFullError(queue.size, count, queue.room, retry_after_s)
        most, free_bytes = self._payloads_most, self._payloads_most - queue.payload_bytes
        if payload_bytes > free_bytes:
            ends = ends_to_free(min(payload_bytes, most) - free_bytes, queue.payload_bytes, len(self._active))
            retry_after_s = estimate.for_places(min(ends, queue.size), time.monotonic())
            raise PayloadsFullError(most, payload_bytes, free_bytes, retry_after_s)
