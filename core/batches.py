"""Batches: jobs that were submitted together, found again by their sequence numbers alone.

Nothing is stored of a batch. Its jobs lie side by side on the board, and its id says where: the first sequence number,
how many jobs there are, and over how many numbers they lie. How a batch is doing is then a count of bytes in a slice.

A number inside the span whose row was held by another job when the batch came was never given to any job, and never
will be: the generation of its row tells it from those of the batch. So does that of a job whose row was used again.
Only then, or when some of its jobs may have expired, are the jobs of a batch looked at one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import msgspec
from headway.core import ids
from headway.core.board import Board
from headway.core.errors import NoRunError
from headway.core.job import State
from headway.core.rows import STATE_MASK
from headway.core.waiters import Waiters

COUNT_MOST = 1000
# Over how many sequence numbers a batch may lie: what fits its id.
SPAN_MOST = ids.COUNT_MASK
# Of the jobs of a batch that are not over, so many are looked at to tell when all are, the last ones.
LOOKED_AT = 16
# The states of jobs that are not over, as bytes of the board.
PENDING = bytes(range(State.SCHEDULED, State.SUCCEEDED))


class BatchStatus(msgspec.Struct, gc=False):
    """What can be said of a batch at one moment."""

    id: bytes
    first: int
    count: int
    # From the first to the last sequence number, both included.
    span: int
    # How many of its jobs are not over, are over, and can no longer be read: ``count`` in all.
    pending: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    # When to ask again; 0 where no job is pending.
    retry_after_ms: int

    @property
    def state(self) -> State:
        """RUNNING while any job is pending; then the first of FAILED, CANCELLED and EXPIRED that any job is."""
        if self.pending:
            return State.RUNNING
        if self.failed:
            return State.FAILED
        if self.cancelled:
            return State.CANCELLED
        return State.EXPIRED if self.expired else State.SUCCEEDED


class Batches:
    """What the board says of jobs that were submitted together.

    ``when_all`` gets some of the jobs of a batch that are not over, how many there are, and the time; and returns the
    milliseconds after which to ask whether all are.
    """

    def __init__(self, board: Board, keys: ids.Ids, when_all: Callable[[Sequence[int], int, float], int]) -> None:
        self.board = board
        self._ids = keys
        self._when_all = when_all

    def seek(self, count: int, now: float) -> int:
        """Return the first sequence number of the next ``count`` jobs; raises NoRunError."""
        if not self.board.seek(count, SPAN_MOST, now):
            raise NoRunError(count)
        return self.board.next_sequence

    def peek(self, batch_id: bytes, now: float) -> BatchStatus | None:
        """Return what is known of a batch; None where it was never issued."""
        first, count, span, tag = ids.read_batch(batch_id)
        if not first or tag != self._ids.batch_tag(first, count, span):
            return None
        return self._status(first, count, span, tag, now)

    def newest(self, first: int, count: int, now: float) -> BatchStatus:
        """Return what is known of a batch whose jobs have just been given their rows, from ``first`` on."""
        span = self.board.next_sequence - first
        return self._status(first, count, span, self._ids.batch_tag(first, count, span), now)

    def _status(self, first: int, count: int, span: int, tag: int, now: float) -> BatchStatus:
        numbers: Sequence[int] = range(first, first + span)
        if span == count and self.board.none_expired(first, now):
            states = self.board.states(first, span)
        else:
            kept = list(self._kept(first, span, now))
            numbers, states = [sequence for sequence, _ in kept], bytes(state for _, state in kept)
        pending = sum(map(states.count, PENDING))
        backwards = (numbers[at] for at in range(len(states) - 1, -1, -1) if states[at] in PENDING)
        last = list(islice(backwards, min(pending, LOOKED_AT)))
        return BatchStatus(
            ids.write_batch(first, count, span, tag),
            first,
            count,
            span,
            pending,
            states.count(State.SUCCEEDED),
            states.count(State.FAILED),
            states.count(State.CANCELLED),
            count - len(states),
            self._when_all(last, pending, now) if last else 0,
        )

    def jobs(self, batch: BatchStatus, now: float) -> list[tuple[bytes, int]]:
        """Return (id, state) of each job of the batch that can still be read, in the order of their submission."""
        board = self.board
        kept = self._kept(batch.first, batch.span, now)
        return [(ids.write(sequence, board.tag[board.at(sequence)]), state) for sequence, state in kept]

    def pending(self, batch: BatchStatus) -> list[int]:
        """Return the jobs of the batch that are not over."""
        return [sequence for sequence, state in self._kept(batch.first, batch.span, 0.0) if state in PENDING]

    def last_pending(self, first: int, span: int) -> int:
        """Return the last job of a batch that is not over; 0 where all are."""
        return max(next(self.board.in_state(State(state), first, first + span), 0) for state in PENDING)

    def _kept(self, first: int, span: int, now: float) -> Iterator[tuple[int, int]]:
        """Yield (sequence, state) of each job of a batch that can still be read."""
        board = self.board
        for sequence in range(first, first + span):
            row = board.row(sequence)
            if row >= 0:
                state = board.live[row] & STATE_MASK
                if state < State.SUCCEEDED or board.kept(row, now):
                    yield sequence, state


class BatchWaiter:
    """Waits for one pending job of a batch after the other, the last first: as a rule it is the last to end.

    ``wake`` is called once, when no job is pending or in ``seconds``, unless the waiter is cancelled before.
    """

    __slots__ = ("_batch", "_batches", "_deadline", "_waiter", "_waiters", "wake")

    def __init__(
        self, batches: Batches, waiters: Waiters, batch: BatchStatus, seconds: float, wake: Callable[[], None]
    ) -> None:
        self._batches = batches
        self._waiters = waiters
        self._batch = batch
        # Of time.monotonic.
        self._deadline = time.monotonic() + seconds
        self.wake = wake
        self._waiter = waiters.add(batches.last_pending(batch.first, batch.span), seconds, self._go_on)

    def cancel(self) -> None:
        """Wait no more."""
        self._waiter.cancel()

    def hurry(self) -> None:
        """Be woken now."""
        self.cancel()
        self.wake()

    def _go_on(self) -> None:
        # One that was woken before its job is over has run out of time, or a drain has begun.
        if self._batches.board.state(self._waiter.sequence) >= State.SUCCEEDED:
            pending = self._batches.last_pending(self._batch.first, self._batch.span)
            if pending:
                self._waiter = self._waiters.add(pending, max(self._deadline - time.monotonic(), 0.0), self._go_on)
                return
        self.wake()
