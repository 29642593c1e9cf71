"""Acting on tasks and jobs of all nodes: the end of a job or of a batch, its terms, the switches of a task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headway.core.errors import NotWaitingError
from headway.core.interface import Cancel, Cancelled, CancelledBatch, Soon
from headway.core.job import Revision, State
from headway.core.later import Read, Then, known, then
from headway.core.retention import Retention
from headway.core.status import BatchStatus, Status
from headway.core.store.changes import (
    CANCELLED_MOST,
    CancelAnswer,
    CancelMode,
    ReviseAnswer,
    cancel_arguments,
    read_cancelled,
    read_revised,
    revise_arguments,
)
from headway.core.store.scripts import CANCEL, REVISE
from headway.core.store.store import Store
from headway.core.valkey.batches import SharedBatches
from headway.core.valkey.statuses import Statuses
from msgspec import UNSET

EFFECTS = {
    CancelAnswer.DROPPED: Cancel.DROPPED,
    CancelAnswer.ASKED: Cancel.ASKED,
    CancelAnswer.FORGOTTEN: Cancel.FORGOTTEN,
    CancelAnswer.NOTHING: Cancel.NOTHING,
    CancelAnswer.GONE: Cancel.NOTHING,
}


class Acts:
    """Carries out the wishes of clients. ``kept`` is how long finished jobs are kept, in one partition."""

    def __init__(
        self,
        store: Store,
        statuses: Statuses,
        batches: SharedBatches,
        kept: Retention,
        ending: Callable[[int], object],
    ) -> None:
        # Sends what an attempt in this node's hands has said, before its job ends.
        self._ending = ending
        self._store = store
        self._statuses = statuses
        self._batches = batches
        self._kept = kept

    def cancel(self, status: Status) -> Soon[Cancelled]:
        """End an active job, or forget the result of a finished one, as Engine says."""
        if status.state in (State.CANCELLED, State.EXPIRED):
            return Cancelled(status, Cancel.NOTHING)
        store, keys = self._store, self._store.keys_of(status.sequence)
        self._ending(status.sequence)
        words = cancel_arguments(b"", CancelMode.DELETE, [status.sequence], kept=self._kept)[1:]

        def done(answers: list[CancelAnswer]) -> Soon[Cancelled]:
            how = EFFECTS[answers[0]]
            return then(self._statuses.anew(status.sequence), lambda now: Cancelled(now, how))

        return Then(Then(store.ask(keys, lambda: store.run(keys, CANCEL, *words)), read_cancelled), done)

    def cancel_batch(self, batch: BatchStatus) -> Soon[CancelledBatch]:
        """End the active jobs of a batch, as Engine says."""
        return Read(asyncio.ensure_future(self._cancel_batch(batch)))

    async def _cancel_batch(self, batch: BatchStatus) -> CancelledBatch:
        store, keys = self._store, self._store.keys_of(batch.first)
        numbers = range(batch.first, batch.first + batch.count * store.partitions, store.partitions)
        running = False
        for begin in range(0, batch.count, CANCELLED_MOST):
            some = numbers[begin : begin + CANCELLED_MOST]
            for sequence in some:
                self._ending(sequence)
            words = cancel_arguments(b"", CancelMode.CANCEL, some, kept=self._kept)[1:]
            reply = await known(store.ask(keys, lambda words=words: store.run(keys, CANCEL, *words)))  # type: ignore[misc]
            running |= CancelAnswer.ASKED in read_cancelled(reply)
            for sequence in some:
                self._statuses.changed(sequence)
        return CancelledBatch(await known(self._batches.at(batch.first, batch.count)), running)

    def revise(self, status: Status, revision: Revision) -> Soon[Status]:
        """Change the priority or the delay of a job that waits, as Engine says."""
        revision.check()
        store, keys = self._store, self._store.keys_of(status.sequence)
        words = revise_arguments(
            b"",
            status.sequence,
            priority=None if revision.priority is UNSET else revision.priority,
            delay_ms=None if revision.delay is UNSET else round(revision.delay * 1000),
        )[1:]

        def done(answer: ReviseAnswer) -> Soon[Status]:
            if answer.how in ("late", "gone"):
                raise NotWaitingError(State(answer.state).name.lower())
            return self._statuses.anew(status.sequence)

        return Then(Then(store.ask(keys, lambda: store.run(keys, REVISE, *words)), read_revised), done)
