"""The status of a job by its id, its number or its key."""

from __future__ import annotations

import time

from headway.core.board.board import Board
from headway.core.ids import Ids
from headway.core.job import State
from headway.core.local.active import Active
from headway.core.retry_after.promises import Promises
from headway.core.retry_after.statuses import RowStatuses
from headway.core.status import Status, bare


class Reading(RowStatuses):
    """Finds the rows of jobs on the board of ``active``. ``names`` are as RowStatuses has them."""

    def __init__(self, ids: Ids, active: Active, promises: Promises, names: list[str]) -> None:
        super().__init__(
            ids,
            active.board,
            active.queue,
            promises,
            names=names,
            tags=active.tags,
            held=active.holds.held,
            messages=active.messages,
        )
        self.board: Board = active.board
        self._active = active

    def at(self, sequence: int) -> Status:
        """Return the status of a job that was issued, and whose submission is committed."""
        row, now = self.board.row(sequence), time.monotonic()
        if row >= 0 and self.board.readable(row, now):
            return self.status(row, now)
        return bare(State.EXPIRED, sequence, self._ids.write(sequence, self._ids.tag(sequence)))

    def peek(self, job_id: bytes) -> Status | None:
        """Return the status of a job at once, or None if it was never issued.

        A job that has left the board, by count or by time, is EXPIRED. Raises MisdirectedError if
        another issuer made the id.
        """
        sequence, tag = self._ids.read(job_id)
        board, now = self.board, time.monotonic()
        row = board.row(sequence)
        if row >= 0 and board.tag[row] == tag and board.readable(row, now):
            return self.status(row, now)
        if not self._ids.issued(sequence, tag):
            return None
        return bare(State.EXPIRED, sequence, job_id)

    def peek_key(self, text: str) -> Status | None:
        """Return the status of the job under a key; None if it has none, or none committed yet."""
        keyed = self._active.keys.get(text, time.monotonic())
        if keyed is None or keyed.batch:
            return None
        sequence = keyed.sequence
        if self.board.row(sequence) < 0 and self._active.changes.uncommitted(sequence) is not None:
            return None
        return self.at(sequence)
