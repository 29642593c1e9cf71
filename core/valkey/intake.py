"""Letting jobs in: the checks of this node, the partition of a job, and the answer of the store.

The node checks all that it can know: the task, the payload, the promise. The store checks the rest
in the script that accepts: the bounds of the queue, the switches of tasks, idempotency keys. A
submission that this node would refuse may have come before under its key, so that is looked up
first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from headway.core.acceptance import check_promise, ends_to_free, misfits
from headway.core.config import Config
from headway.core.errors import (
    DrainingError,
    HeadwayError,
    InvalidError,
    InvalidPayloadError,
    KeyReusedError,
    NotDurableError,
    NotFailedError,
    OrdersFullError,
    PayloadGoneError,
    PayloadsFullError,
    QueueFullError,
    TaskClosedError,
    UnknownTaskError,
)
from headway.core.faults import few, not_one_of
from headway.core.hold import OPEN_END_S
from headway.core.interface import Later, Soon, Submitted, SubmittedBatch
from headway.core.job import State, Submission, Terms
from headway.core.key import Key
from headway.core.later import Otherwise, Read, Then, then
from headway.core.order import OWN_MOST
from headway.core.retry_after.estimate import SUCCESSOR_S
from headway.core.status import Status
from headway.core.store.groups import (
    Accepted,
    Closed,
    GroupAnswer,
    NewJob,
    NoBytes,
    NoOrders,
    NoPlaces,
    NotFailed,
    PayloadGone,
    Replayed,
    Reused,
    SubmitGroup,
)
from headway.core.store.keys import LIMITED, partition_of_name
from headway.core.store.record import decode_record, encode_record
from headway.core.store.store import Store
from headway.core.tasks.payloads import check
from headway.core.tasks.registry import Registry
from headway.core.valkey.batches import SharedBatches
from headway.core.valkey.catalogue import Card, Catalogue
from headway.core.valkey.hints import Hints
from headway.core.valkey.snapshot import Snapshots
from headway.core.valkey.statuses import Statuses
from headway.core.valkey.submissions import Submissions, Submitting
from msgspec.structs import replace

Taken = TypeVar("Taken")
# Refusals of this node, before the store has looked at the key.
REFUSED_HERE = (DrainingError, InvalidError, NotDurableError, NotFailedError, PayloadGoneError)


class Intake:
    """Accepts jobs into the store."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        store: Store,
        *,
        catalogue: Catalogue,
        statuses: Statuses,
        batches: SharedBatches,
        snapshots: Snapshots,
        hints: Hints,
        submissions: Submissions,
    ) -> None:
        self._config = config
        self._registry = registry
        self._store = store
        self._catalogue = catalogue
        self._statuses = statuses
        self._batches = batches
        self._snapshots = snapshots
        self._hints = hints
        self._submissions = submissions
        self.is_draining = False

    # A job.

    def submit(self, submission: Submission, key: Key | None) -> Soon[Submitted]:
        """Accept a job, as Engine says."""
        return self._unless_before(
            key,
            lambda: self._with_tasks([submission], "task", lambda cards: self._submit(submission, cards[0], key)),
            lambda before: self._replayed(before),
        )

    def _submit(self, submission: Submission, card: Card, key: Key | None) -> Soon[Submitted]:
        self._check(submission)
        job = self._job(submission, card)
        self._check_sum(1, job.payload_bytes)
        return self._answered(self._put(self._partition([card], key), SubmitGroup([job], key=key)), job)

    def _put(self, partition: int, jobs: SubmitGroup) -> Submitting:
        """Submit jobs. Of several partitions none knows of the others, so this node counts its own jobs."""
        group = self._submissions.put(partition, jobs)
        if self._store.partitions > 1:
            snapshots, count, size_bytes = self._snapshots, len(jobs.jobs), sum(job.payload_bytes for job in jobs.jobs)
            snapshots.asking(count, size_bytes)
            group.on_end = lambda answer: snapshots.answered(
                partition, count, size_bytes, is_accepted=isinstance(answer, Accepted)
            )
        return group

    def _answered(self, group: Submitting, job: NewJob) -> Soon[Submitted]:
        """Return a job that was submitted alone, once the store has answered."""

        def answered(answer: GroupAnswer) -> Soon[Submitted]:
            if isinstance(answer, Accepted):
                return then(self._statuses.of_new(answer.first, job, group.now_ms), Submitted)
            if isinstance(answer, Replayed):
                return self._replayed(answer)
            raise self._refusal(answer, 1, job.payload_bytes)

        return Then(group, answered)

    def _replayed(self, before: Replayed) -> Soon[Submitted]:
        return then(self._statuses.at(before.first), lambda status: Submitted(status, replayed=True))

    def replay(self, key: Key) -> Soon[Submitted | None]:
        """Return the job that was accepted under ``key``, as Engine says."""
        return then(self._statuses.replay(key), lambda before: None if before is None else self._replayed(before))

    # A batch.

    def submit_batch(self, submissions: Sequence[Submission], key: Key | None) -> Soon[SubmittedBatch]:
        """Accept jobs as a batch, as Engine says."""
        return self._unless_before(
            key,
            lambda: self._with_tasks(
                submissions, "[{}].task", lambda cards: self._submit_batch(submissions, cards, key)
            ),
            self._replayed_batch,
        )

    def _submit_batch(
        self, submissions: Sequence[Submission], cards: Sequence[Card], key: Key | None
    ) -> Soon[SubmittedBatch]:
        faults = few(misfits(submissions, self._registry.by_name))
        if faults:
            raise InvalidPayloadError(faults)
        for demanded in dict.fromkeys(submission.durability for submission in submissions):
            check_promise(demanded, self._store.durability)
        jobs = [self._job(submission, card) for submission, card in zip(submissions, cards, strict=True)]
        self._check_sum(len(jobs), sum(job.payload_bytes for job in jobs))
        group = self._put(self._partition(cards, key), SubmitGroup(jobs, "batch", key))

        def answered(answer: GroupAnswer) -> Soon[SubmittedBatch]:
            if isinstance(answer, Accepted):
                return SubmittedBatch(self._batches.of_new(answer.first, len(jobs)))
            if isinstance(answer, Replayed):
                return self._replayed_batch(answer)
            raise self._refusal(answer, len(jobs), sum(job.payload_bytes for job in jobs))

        return Then(group, answered)

    def _replayed_batch(self, before: Replayed) -> Soon[SubmittedBatch]:
        return Then(self._batches.at(before.first, before.count), lambda status: SubmittedBatch(status, replayed=True))

    def replay_batch(self, key: Key) -> Soon[SubmittedBatch | None]:
        """Return the batch that was accepted under ``key``, as Engine says."""
        return then(self._statuses.replay(key), lambda before: None if before is None else self._replayed_batch(before))

    # A failed job again.

    def retry(self, status: Status, key: Key | None) -> Soon[Submitted]:
        """Resubmit a failed job, as Engine says."""
        return self._unless_before(key, lambda: self._retry(status, key), self._replayed)

    def _retry(self, status: Status, key: Key | None) -> Soon[Submitted]:
        if status.state != State.FAILED:
            raise NotFailedError
        store, keys = self._store, self._store.keys_of(status.sequence)
        record = store.ask(keys, lambda: store.call(keys, "GET", keys.record(status.sequence)))
        facts = store.ask(keys, lambda: store.call(keys, "HGET", keys.job(status.sequence), "i"))
        return Then(
            record,
            lambda record: Then(facts, lambda priority: self._resubmit(status, record, int(priority or 0), key)),
        )

    def _resubmit(self, status: Status, record: bytes | None, priority: int, key: Key | None) -> Soon[Submitted]:
        card = self._catalogue.get(status.task)
        if record is None or card is None:
            raise PayloadGoneError
        terms, payload = decode_record(record)
        known = self._registry.by_name.get(status.task)
        if known is not None and known.payload_type is not None:
            # The task may have changed since.
            check(payload, known.payload_type, terms.media_type)
        self.check_draining()
        self._check_sum(1, len(payload))
        job = NewJob.again(status.sequence, status.task, terms, len(payload), priority)
        partition = self._store.keys_of(status.sequence).partition
        home = partition if key is None else self._partition([card], key)
        if home == partition:
            return self._answered(self._put(partition, SubmitGroup([job], "resubmission", key)), job)
        # A key has its own partition, in which it is looked for, and the record is not there.
        job = replace(job, record=record)
        return self._answered(self._put(home, SubmitGroup([job], key=key)), job)

    # An order.

    def order(self, jobs: SubmitGroup) -> Soon[Submitted]:
        """Accept an order about many jobs."""
        return self._unless_before(jobs.key, lambda: self._order(jobs), self._replayed)

    def _order(self, jobs: SubmitGroup) -> Soon[Submitted]:
        group = self._put(self._partition([], jobs.key), jobs)
        return self._answered(group, jobs.jobs[0])

    # Checks.

    def _unless_before(
        self, key: Key | None, take: Callable[[], Soon[Taken]], replayed: Callable[[Replayed], Soon[Taken]]
    ) -> Soon[Taken]:
        """Return what ``take`` takes. If it refuses, and something came under ``key`` before, return that."""

        def taken() -> Soon[Taken]:
            self.check_draining()
            return take()

        if key is None:
            return taken()
        if self._store.partitions > 1:
            # A key may lie in one of two partitions.
            return then(self._statuses.replay(key), lambda before: taken() if before is None else replayed(before))

        def refused(fault: HeadwayError) -> Soon[Taken]:
            if not isinstance(fault, REFUSED_HERE):
                raise fault
            return then(self._statuses.replay(key), lambda before: looked(before, fault))

        def looked(before: Replayed | None, fault: HeadwayError) -> Soon[Taken]:
            if before is None:
                raise fault
            return replayed(before)

        try:
            soon = taken()
        except HeadwayError as error:
            return refused(error)
        return Otherwise(soon, refused) if isinstance(soon, Later) else soon

    def check_draining(self) -> None:
        """Raise DrainingError if no jobs are accepted here."""
        if self.is_draining:
            raise DrainingError(self._hints.estimate.later(SUCCESSOR_S, time.monotonic()))

    def _with_tasks(
        self, submissions: Sequence[Submission], place: str, take: Callable[[Sequence[Card]], Soon[Taken]]
    ) -> Soon[Taken]:
        """Return what ``take`` makes of the cards of the tasks. Raises UnknownTaskError if no node has one.

        ``place`` is where a submission names its task, with its index.
        """
        cards = [self._catalogue.get(submission.task) for submission in submissions]
        if None not in cards:
            return take([card for card in cards if card is not None])
        return Then(Read(self._catalogue.look()), lambda _: take(self._known(submissions, place)))

    def _known(self, submissions: Sequence[Submission], place: str) -> list[Card]:
        cards = [self._catalogue.get(submission.task) for submission in submissions]
        faults = few(
            (place.format(index), not_one_of(repr(submission.task), self._catalogue.all))
            for index, (submission, card) in enumerate(zip(submissions, cards, strict=True))
            if card is None
        )
        if faults:
            raise UnknownTaskError(faults)
        return [card for card in cards if card is not None]

    def _check(self, submission: Submission) -> None:
        task = self._registry.by_name.get(submission.task)
        if task is not None and task.payload_type is not None:
            check(submission.payload, task.payload_type, submission.media_type)
        check_promise(submission.durability, self._store.durability)

    def _job(self, submission: Submission, card: Card) -> NewJob:
        terms: Terms = card.terms(submission)
        payload = bytes(submission.payload)
        return NewJob(
            task=submission.task,
            record=encode_record(terms, payload),
            payload_bytes=len(payload),
            priority=submission.priority,
            delay_ms=_ms(submission.delay) or 0,
            deadline_ms=_ms(terms.deadline_s),
            keep_ms=_ms(terms.keep_s),
            tags=terms.tags,
        )

    def _partition(self, cards: Sequence[Card], key: Key | None) -> int:
        if any(card.max_concurrent is not None for card in cards):
            return LIMITED
        if key is not None:
            return partition_of_name(key.text, self._store.partitions)
        return self._submissions.next_partition()

    # Refusals.

    def check_room(self, count: int, payload_bytes: int) -> None:
        """Raise DrainingError or QueueFullError by the last counts, as Engine says."""
        self.check_draining()
        snapshots, most = self._snapshots, self._config.queue
        waiting = snapshots.last.waiting + snapshots.asked
        size_bytes = snapshots.last.payload_bytes + snapshots.asked_bytes
        if waiting + count > most.size:
            raise self._no_room(count, most.size - waiting)
        if size_bytes + payload_bytes > most.max_bytes:
            raise self._no_bytes(payload_bytes, most.max_bytes - size_bytes)

    def _check_sum(self, count: int, payload_bytes: int) -> None:
        """Raise QueueFullError if several partitions have no room together, by the last counts.

        Something that came before under a key is found by the caller then.
        """
        if self._store.partitions > 1:
            self.check_room(count, payload_bytes)

    def _no_room(self, count: int, room: int) -> HeadwayError:
        size = self._config.queue.size
        retry_after_s = self._hints.estimate.for_places(min(count, size) - room, time.monotonic())
        return QueueFullError(size, count, room, retry_after_s)

    def _no_bytes(self, payload_bytes: int, free_bytes: int) -> HeadwayError:
        most, last = self._config.queue.max_bytes, self._snapshots.last
        ends = ends_to_free(min(payload_bytes, most) - free_bytes, last.payload_bytes, last.active)
        places = max(min(ends, self._config.queue.size), 1)
        return PayloadsFullError(
            most, payload_bytes, free_bytes, self._hints.estimate.for_places(places, time.monotonic())
        )

    def _refusal(self, answer: GroupAnswer, count: int, payload_bytes: int) -> HeadwayError:
        """Return the error for an answer of the store that accepts nothing."""
        self._snapshots.changed()
        match answer:
            case NoPlaces():
                return self._no_room(count, answer.room)
            case NoBytes():
                return self._no_bytes(payload_bytes, answer.free)
            case NoOrders():
                wait = self._hints.estimate.later(1.0, time.monotonic())
                return OrdersFullError(OWN_MOST, 1, 0, wait)
            case Closed():
                until = answer.hold.until
                seconds = OPEN_END_S if until is None else max(until - self._store.server_ms() / 1000, 0.0)
                wait = self._hints.estimate.later(seconds, time.monotonic())
                return TaskClosedError(answer.task, answer.hold.reason, wait)
            case NotFailed():
                return NotFailedError()
            case PayloadGone():
                return PayloadGoneError()
            case Reused():
                return KeyReusedError()
            case _:
                raise TypeError(answer)


def _ms(seconds: float | None) -> int | None:
    """Return milliseconds, at least one unless it is 0."""
    return None if seconds is None else max(round(seconds * 1000), 1 if seconds else 0)
