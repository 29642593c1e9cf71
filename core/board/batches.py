"""Batches: jobs that were submitted together, found again by their sequence numbers alone.

The jobs of a batch have numbers side by side, and its id has the first one and their count. The
status of a batch is then a count of bytes in a slice. If some of its jobs may have moved or
expired, they are looked at one by one. The outcomes of expired jobs are in ``outcomes``, so a batch
is known for as long as any of its jobs is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from headway.core.board.board import Board
from headway.core.board.outcomes import Outcomes, batch_number
from headway.core.board.rows import STATE_MASK
from headway.core.ids import Ids
from headway.core.job import State
from headway.core.status import BatchStatus

# Of the unfinished jobs of a batch so many, the last ones, are looked at to predict when all
# finish.
LOOKED_AT = 16
# The states of unfinished jobs, as bytes of the board.
PENDING = bytes(range(State.SCHEDULED, State.SUCCEEDED))


def unfinished(numbers: Sequence[int], states: bytes) -> tuple[int, list[int]]:
    """Return how many of these jobs have not finished, and the last LOOKED_AT of those, descending."""
    pending = sum(map(states.count, PENDING))
    backwards = (numbers[at] for at in range(len(states) - 1, -1, -1) if states[at] in PENDING)
    return pending, list(islice(backwards, min(pending, LOOKED_AT)))


class Batches:
    """The jobs on the board that were submitted together.

    ``when_all`` gets some of the unfinished jobs of a batch, the count of all unfinished ones, and
    the time. It returns the milliseconds after which to ask whether all are finished.
    """

    def __init__(
        self,
        board: Board,
        outcomes: Outcomes,
        ids: Ids,
        when_all: Callable[[Sequence[int], int, float], int],
    ) -> None:
        self.board = board
        self._outcomes = outcomes
        self._ids = ids
        self._when_all = when_all

    def peek(self, batch_id: bytes, now: float) -> BatchStatus | None:
        """Return the status of a batch, None if it was never issued.

        Raises MisdirectedError as ids do.
        """
        first, count = self._ids.read_batch(batch_id)
        return self.status(first, count, now, batch_id) if first else None

    def status(self, first: int, count: int, now: float, batch_id: bytes = b"") -> BatchStatus:
        """Return the status of the batch of ``count`` jobs from ``first`` on."""
        numbers: Sequence[int] = range(first, first + count)
        states = self.board.states(first, count)
        if not self.board.none_expired(first, states, now):
            kept = list(self._kept(first, count, now))
            numbers, states = [sequence for sequence, _ in kept], bytes(state for _, state in kept)
        if len(states) < count and first < self._outcomes.known_from:
            # Nobody knows how those ended that cannot be read any more.
            states = b""
        pending, last = unfinished(numbers, states)
        failed, cancelled = self._unsuccessful(first, count, states)
        return BatchStatus(
            id=batch_id or self._ids.write_batch(first, count),
            first=first,
            count=count,
            pending=pending,
            succeeded=count - pending - failed - cancelled if states else 0,
            failed=failed,
            cancelled=cancelled,
            expired=count - len(states),
            retry_after_ms=self._when_all(last, pending, now) if last else 0,
        )

    def _unsuccessful(self, first: int, count: int, states: bytes) -> tuple[int, int]:
        """Return how many jobs failed and were cancelled: of all jobs while all can be read, else as was counted."""
        if len(states) == count:
            return states.count(State.FAILED), states.count(State.CANCELLED)
        return self._outcomes.get(batch_number(first, count)) if states else (0, 0)

    def again(self, batch: BatchStatus) -> BatchStatus:
        """Return the present status of a batch."""
        return self.status(batch.first, batch.count, time.monotonic(), batch.id)

    def jobs(self, batch: BatchStatus, now: float) -> list[tuple[bytes, int]]:
        """Return (id, state) of each readable job of the batch, in the order of submission."""
        board = self.board
        kept = self._kept(batch.first, batch.count, now)
        return [(self._ids.write(sequence, board.tag[board.at(sequence)]), state) for sequence, state in kept]

    def pending(self, batch: BatchStatus) -> list[int]:
        """Return the unfinished jobs of the batch."""
        return [sequence for sequence, state in self._kept(batch.first, batch.count, 0.0) if state in PENDING]

    def last_pending(self, first: int, count: int) -> int:
        """Return the last unfinished job of a batch, 0 if all are finished."""
        backwards = range(first + count - 1, first - 1, -1)
        return next((sequence for sequence in backwards if self.board.state(sequence) in PENDING), 0)

    def _kept(self, first: int, count: int, now: float) -> Iterator[tuple[int, int]]:
        """Yield (sequence, state) of each job of a batch that can still be read."""
        board = self.board
        for sequence in range(first, first + count):
            row = board.row(sequence)
            if row >= 0:
                state = board.live[row] & STATE_MASK
                if state < State.SUCCEEDED or board.kept(row, now):
                    yield sequence, state
