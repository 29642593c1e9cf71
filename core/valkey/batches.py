"""Batches: their counts, and clients that wait until none of their jobs is pending."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from headway.core.errors import EngineAwayError, HeadwayError, MisdirectedError
from headway.core.interface import LISTED_MOST, Later, Soon
from headway.core.later import Read, Then
from headway.core.status import BatchStatus
from headway.core.store.changes import BatchFacts, batch_arguments, read_batch
from headway.core.store.keys import number_of
from headway.core.store.scripts import BATCH
from headway.core.store.steps import read_batch_place
from headway.core.store.store import Store
from headway.core.valkey.hints import Hints
from headway.core.waiters import Waiter, Waiters, slot_of


class BatchEnded(Waiter, Later[None]):
    """The end of the last job of a batch, or the end of the time, or a drain."""

    __slots__ = ("_batches",)

    def __init__(self, batches: SharedBatches, first: int, seconds: float) -> None:
        super().__init__(batches.waiters, first, slot_of(seconds), int)
        self._batches = batches

    def when_known(self, wake: Any) -> None:
        """Have ``wake`` called at the end of the batch, of the time, or at a drain."""
        self.wake = wake
        self._waiters.put(self)
        self._batches.look(self.sequence)

    def value(self) -> None:
        """Return nothing: the batch is read then."""


class SharedBatches:
    """Reads batches of all nodes."""

    def __init__(self, store: Store, hints: Hints) -> None:
        self._store = store
        self._hints = hints
        # Clients that wait for a batch, by the number of its first job.
        self.waiters = Waiters()

    def peek(self, batch_id: bytes) -> Soon[BatchStatus | None]:
        """Return the status of a batch, or None if it was never issued. Raises MisdirectedError."""
        first, count = self._store.ids.read_batch(batch_id)
        return self.at(first, count) if count else None

    def at(self, first: int, count: int) -> Later[BatchStatus]:
        """Return the status of a batch that was issued."""
        return Then(self._read(first, count), lambda facts: self._status(first, count, facts))

    def _read(self, first: int, count: int) -> Later[BatchFacts]:
        store = self._store
        keys, marker = store.keys_of(first), store.ids.marker

        def read(reply: Any) -> BatchFacts:
            if store.ids.marker != marker:
                # The store was emptied meanwhile: a call that was sent again is about other jobs.
                raise MisdirectedError
            return read_batch(reply)

        # The store puts the marker before them.
        words = batch_arguments(b"", first, count, store.partitions)[1:]
        return Then(store.ask(keys, lambda: store.run(keys, BATCH, *words)), read)

    def _status(self, first: int, count: int, facts: BatchFacts) -> BatchStatus:
        if facts.expired == count:
            # Whatever is known of it, none of its jobs is any more.
            facts = BatchFacts(0, 0, 0, 0, facts.states)
        return BatchStatus(
            id=self._store.ids.write_batch(first, count),
            first=first,
            count=count,
            pending=facts.pending,
            succeeded=facts.succeeded,
            failed=facts.failed,
            cancelled=facts.cancelled,
            expired=facts.expired,
            retry_after_ms=self._hints.for_batch_ms(facts.pending) if facts.pending else 0,
        )

    def recent(self) -> Later[Sequence[BatchStatus]]:
        """Return the last batches of which a job can still be read, newest first."""
        return Read(asyncio.ensure_future(self._recent()))

    async def _recent(self) -> list[BatchStatus]:
        store = self._store
        lists = await store.answer(
            asyncio.gather(*(store.call(keys, "LRANGE", keys.batches, 0, LISTED_MOST - 1) for keys in store.keys))
        )
        places = sorted((read_batch_place(place) for places in lists for place in places), reverse=True)[:LISTED_MOST]
        calls = [
            store.run(store.keys_of(first), BATCH, *batch_arguments(b"", first, count, store.partitions)[1:])
            for first, count in places
        ]
        facts = map(read_batch, await store.answer(asyncio.gather(*calls)))
        found = [self._status(first, count, known) for (first, count), known in zip(places, facts, strict=True)]
        return [batch for batch in found if batch.expired < batch.count]

    def jobs(self, batch: BatchStatus) -> Later[list[tuple[bytes, int]]]:
        """Return (id, state) of each job of a batch that can be read, in the order of their submission."""
        ids, stride = self._store.ids, self._store.partitions

        def listed(facts: BatchFacts) -> list[tuple[bytes, int]]:
            numbers = range(batch.first, batch.first + batch.count * stride, stride)
            return [(ids.write(s, ids.tag(s)), state) for s, state in zip(numbers, facts.states, strict=True) if state]

        return Then(self._read(batch.first, batch.count), listed)

    def of_new(self, first: int, count: int) -> BatchStatus:
        """Return the status of a batch that the store has just accepted."""
        return self._status(first, count, BatchFacts(count, 0, 0, 0, []))

    # Waiting.

    def wait(self, batch: BatchStatus, seconds: float) -> Later[BatchStatus]:
        """Return the status of a batch once none of its jobs is pending, or in ``seconds``, or at a drain."""
        return Then(BatchEnded(self, batch.first, seconds), lambda _: self.at(*self._store.ids.read_batch(batch.id)))

    def look(self, first: int) -> None:
        """Read how many jobs are pending, and have the next change told. Wake the clients if none is."""
        store, keys = self._store, self._store.keys_of(first)
        with suppress(EngineAwayError):
            # It is looked at again when the store is there.
            pending = store.ask(keys, lambda: store.read(keys, keys.batch(first), b"p"))
            pending.when_known(lambda: self._came(first, pending))

    def _came(self, first: int, asked: Later[Any]) -> None:
        try:
            pending = asked.value()[0]
        except HeadwayError:
            # It is looked at again when the store is there.
            return
        if not pending or int(pending) <= 0:
            self.waiters.ended(first)

    def invalid(self, keys: list[bytes] | None) -> None:
        """Look at the batches of these keys, which have changed. None: all."""
        if keys is None:
            self.up()
            return
        for key in keys:
            first = number_of(key, b"b")
            if first in self.waiters:
                self.look(first)

    def up(self) -> None:
        """Look at the batches that are waited for."""
        for first in self.waiters.jobs():
            self.look(first)
