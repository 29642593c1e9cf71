"""Acting on tasks and jobs of all nodes: the end of a job or of a batch, its terms, the switches of a task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headway.core.audit import Act
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
from headway.core.valkey.shared_audit import SharedAudit
from headway.core.valkey.statuses import Statuses
from msgspec import UNSET
from msgspec.structs import replace

EFFECTS = {
    CancelAnswer.DROPPED: Cancel.DROPPED,
    CancelAnswer.ASKED: Cancel.ASKED,
    CancelAnswer.FORGOTTEN: Cancel.FORGOTTEN,
    CancelAnswer.NOTHING: Cancel.NOTHING,
    CancelAnswer.GONE: Cancel.NOTHING,
}
# The jobs of a batch that were unfinished.
ENDED = (CancelAnswer.DROPPED, CancelAnswer.ASKED)


class Acts:
    """Carries out the wishes of clients. ``kept`` is how long finished jobs are kept, in one partition."""

    def __init__(
        self,
        store: Store,
        statuses: Statuses,
        batches: SharedBatches,
        *,
        kept: Retention,
        ending: Callable[[int], object],
        trail: SharedAudit,
    ) -> None:
        # Sends what an attempt in this node's hands has said, before its job ends.
        self._ending = ending
        self._store = store
        self._statuses = statuses
        self._batches = batches
        self._kept = kept
        self._trail = trail

    def cancel(self, status: Status, act: Act | None) -> Soon[Cancelled]:
        """End an active job, or forget the result of a finished one, as Engine says."""
        if status.state in (State.CANCELLED, State.EXPIRED):
            return Cancelled(status, Cancel.NOTHING)
        store, keys = self._store, self._store.keys_of(status.sequence)
        self._ending(status.sequence)
        words = cancel_arguments(b"", CancelMode.DELETE, [status.sequence], kept=self._kept)[1:]

        def done(answers: list[CancelAnswer]) -> Soon[Cancelled]:
            how = EFFECTS[answers[0]]
            return then(self._statuses.anew(status.sequence), lambda now: Cancelled(now, how))

        answers = Then(store.ask(keys, lambda: store.run(keys, CANCEL, *words)), read_cancelled)
        return then(self._trail.after(answers, act, _cancelled), done)

    def cancel_batch(self, batch: BatchStatus, act: Act | None) -> Soon[CancelledBatch]:
        """End the active jobs of a batch, as Engine says."""
        # All of it is done, also if the client goes meanwhile.
        return Read(asyncio.shield(asyncio.ensure_future(self._cancel_batch(batch, act))))

    async def _cancel_batch(self, batch: BatchStatus, act: Act | None) -> CancelledBatch:
        ended: list[CancelAnswer] = []
        try:
            await self._cancel_each(batch, ended)
        finally:
            # The store may have gone in between.
            if act is not None and ended:
                goes_on = CancelAnswer.ASKED in ended
                await self._trail.keep(replace(act, goes_on=goes_on, count=len(ended)))
        return CancelledBatch(await known(self._batches.at(batch.first, batch.count)), CancelAnswer.ASKED in ended)

    async def _cancel_each(self, batch: BatchStatus, ended: list[CancelAnswer]) -> None:
        """Cancel the jobs of a batch, and add to ``ended`` the answers of those that have been."""
        store, keys = self._store, self._store.keys_of(batch.first)
        numbers = range(batch.first, batch.first + batch.count * store.partitions, store.partitions)
        for begin in range(0, batch.count, CANCELLED_MOST):
            some = numbers[begin : begin + CANCELLED_MOST]
            for sequence in some:
                self._ending(sequence)
            words = cancel_arguments(b"", CancelMode.CANCEL, some, kept=self._kept)[1:]
            reply = await known(store.ask(keys, lambda words=words: store.run(keys, CANCEL, *words)))  # type: ignore[misc]
            ended += (answer for answer in read_cancelled(reply) if answer in ENDED)
            for sequence in some:
                self._statuses.changed(sequence)

    def revise(self, status: Status, revision: Revision, act: Act | None) -> Soon[Status]:
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

        answer = Then(store.ask(keys, lambda: store.run(keys, REVISE, *words)), read_revised)
        return then(self._trail.after(answer, act, _revised), done)


def _cancelled(answers: list[CancelAnswer], act: Act) -> Act | None:
    if EFFECTS[answers[0]] is Cancel.NOTHING:
        return None
    return replace(act, goes_on=answers[0] is CancelAnswer.ASKED)


def _revised(answer: ReviseAnswer, act: Act) -> Act | None:
    return act if answer.how == "done" else None
