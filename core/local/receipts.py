"""What a client is told of the jobs that it submitted, once their submission is committed.

It may be asked for late, when the jobs are over or have expired. A refused submission is known by its
change, and never by what is missing on the board.
"""

from __future__ import annotations

import time

from headway.core.audit import Act
from headway.core.board.batches import Batches
from headway.core.interface import Soon, Submitted, SubmittedBatch
from headway.core.local.active import Active
from headway.core.local.reading import Reading
from headway.core.local.uncommitted import Committed
from msgspec.structs import replace


class Receipts:
    """Makes the answers to submissions, and the entries of acts that a new job carries out."""

    def __init__(self, active: Active, reading: Reading, batches: Batches) -> None:
        self._ids = active.ids
        self._board = active.board
        self._changes = active.changes
        self._reading = reading
        self._batches = batches

    def of(self, sequence: int, replayed: bool = False) -> Soon[Submitted]:
        """Return an accepted job, once its submission is committed."""
        change = self._changes.uncommitted(sequence)
        if change is not None and self._board.row(sequence) < 0:
            return Committed(change, lambda: Submitted(self._reading.at(sequence), replayed))
        return Submitted(self._reading.at(sequence), replayed)

    def of_batch(self, first: int, count: int, replayed: bool = False) -> Soon[SubmittedBatch]:
        """Return an accepted batch, once the submission of its last job is committed."""
        status = self._batches.status(first, count, time.monotonic())
        change = self._changes.uncommitted(first + count - 1)
        if change is None or status.pending:
            return SubmittedBatch(status, replayed)
        return Committed(change, lambda: SubmittedBatch(self._batches.status(first, count, time.monotonic()), replayed))

    def note(self, act: Act | None, sequence: int) -> None:
        """Keep an act that a new job carries out."""
        if act is not None:
            job_id = self._ids.write(sequence, self._ids.tag(sequence))
            self._changes.note(replace(act, goes_on=True, job=job_id.decode()))
