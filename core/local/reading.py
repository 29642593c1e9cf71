"""The status of a job: its row on the board, and when to ask again."""

from __future__ import annotations

import time
from collections.abc import Iterable

from headway.core.board.board import Board
from headway.core.board.rows import (
    ATTEMPT_MAX,
    ATTEMPT_SHIFT,
    GENERATION_SHIFT,
    PROGRESS_NONE,
    PROGRESS_SHIFT,
    STATE_MASK,
)
from headway.core.ids import Ids
from headway.core.job import State
from headway.core.local.active import Active
from headway.core.retry_after.promises import Promises
from headway.core.status import Status, bare
from headway.core.wall import wall

# Plain ints for the road of a poll: a member of an enum costs twice as much to compare.
QUEUED, RUNNING, SUCCEEDED = int(State.QUEUED), int(State.RUNNING), int(State.SUCCEEDED)


class Reading:
    """Reads ``board``. ``names`` are those of tasks by the index that the board has of them."""

    def __init__(self, ids: Ids, active: Active, promises: Promises, names: list[str]) -> None:
        self._ids = ids
        self.board: Board = active.board
        self._active = active
        self._tags = active.tags
        # The tasks that are held, by index.
        self.held = active.holds.held
        self.promises = promises
        self.names = names
        # The messages beside the progress of running jobs.
        self.messages = active.messages
        # The beginning of all ids of this engine.
        self.marker = ids.marker
        # Wall clock minus monotonic clock, in seconds, as of the last ``tick``.
        self.wall = wall.read()

    def tick(self, _: float) -> Iterable[object]:
        """Read the wall clock. Ticks come once a second."""
        self.wall = wall.read()
        return ()

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

    def status(self, row: int, now: float, promise: bool = True) -> Status:
        """Return the status of the job in ``row``. Without a ``promise`` it has no hint when to ask again."""
        board = self.board
        # Once: each reading of a column makes an object.
        word, task, started, offset = board.live[row], board.task[row], board.started[row], self.wall
        state = word & STATE_MASK
        sequence = (word >> GENERATION_SHIFT) * board.rows + row if row < board.rows else board.sequence(row)
        progress = word >> PROGRESS_SHIFT & PROGRESS_NONE
        ahead, wait, held = 0, 0, None
        if state < SUCCEEDED:
            if state != RUNNING:
                ahead, held = self._active.queue.ahead(row, state != QUEUED), self.held.get(task)
            if promise and held is None:
                wait = self.promises.retry_after_ms(row, word, ahead, now)
            elif promise:
                wait = self.promises.while_held_ms(row, word, now)
        status = Status(
            state=state,
            sequence=sequence,
            id=self._ids.write(sequence, board.tag[row]),
            task=self.names[task],
            attempt=word >> ATTEMPT_SHIFT & ATTEMPT_MAX,
            progress=None if progress == PROGRESS_NONE else progress,
            position=ahead,
            retry_after_ms=wait,
            submitted=board.submitted[row] + offset,
            started=started + offset if started else 0.0,
            ended=0.0,
            reason=board.reason[row],
        )
        # Few jobs have these, and CPython passes more than 15 keywords in a dict, which takes 0.4 µs.
        if state >= SUCCEEDED:
            status.ended, status.kept_until = board.ended[row] + offset, board.kept_until[row] + offset
        if held is not None:
            status.held = held.reason
        if self._tags.segments:
            status.tags = self._tags.of(sequence)
        if self.messages:
            status.message = self.messages.get(sequence, "")
        return status
