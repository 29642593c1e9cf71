"""The statuses of jobs and batches as a gateway reads them off the rows of its engine.

What the rows do not have, the tags of jobs and the outcomes of old batches, is not told here: UNKNOWN stands for
what only the engine knows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import Enum
from typing import Literal

from headway.core.board.batches import unfinished
from headway.core.board.rows import GENERATION_SHIFT, STATE_MASK
from headway.core.gateway.lines import SeenLines
from headway.core.gateway.rows import SeenPromises, SeenRows
from headway.core.gateway.standing import Hello
from headway.core.hold import TaskHold
from headway.core.ids import Ids
from headway.core.job import State
from headway.core.retry_after.statuses import RowStatuses
from headway.core.status import BatchStatus, Status, bare

# Readings of a row that changes each time. It changes a few times in the life of a job.
READINGS = 8
SUCCEEDED = int(State.SUCCEEDED)


class Unknown(Enum):
    """Only the engine knows."""

    UNKNOWN = 0


UNKNOWN = Unknown.UNKNOWN


class NoTags:
    """Stands in for the tags of jobs, which are not read here."""

    segments: Mapping[int, object] = {}

    def of(self, sequence: int) -> tuple[str, ...]:
        """Return no tag."""
        return ()


class SeenStatuses(RowStatuses):
    """Reads ``board``, the rows of the engine that has said ``hello``."""

    def __init__(
        self,
        hello: Hello,
        board: SeenRows,
        lines: SeenLines,
        promises: SeenPromises,
        *,
        held: Mapping[int, TaskHold],
        messages: Mapping[int, str],
    ) -> None:
        ids = Ids(hello.secret, hello.salts, hello.since)
        super().__init__(ids, board, lines, promises, names=hello.names, tags=NoTags(), held=held, messages=messages)
        self.board = board

    def peek(self, job_id: bytes) -> Status | Literal[Unknown.UNKNOWN] | None:
        """Return the status of a job without its tags, None if it was never issued. Raises MisdirectedError."""
        sequence, tag = self._ids.read(job_id)
        if not sequence:
            return None
        board = self.board
        for _ in range(READINGS):
            row, now = board.home(sequence), time.monotonic()
            if row < 0:
                # The annex is not searched for ids that anybody can make up.
                row = board.row_in_annex(sequence) if self._ids.issued(sequence, tag) else -1
            if row < 0:
                break
            word = board.live[row]
            if board.tag[row] != tag:
                if board.is_as(row, sequence, word):
                    break
                continue
            is_readable = word & STATE_MASK < SUCCEEDED or board.kept(row, now)
            status = self.status(row, now) if is_readable else bare(State.EXPIRED, sequence, job_id)
            if board.is_as(row, sequence, word):
                return status
        else:
            return UNKNOWN
        if not self._ids.issued(sequence, tag):
            return None
        return bare(State.EXPIRED, sequence, job_id)

    def peek_batch(self, batch_id: bytes) -> BatchStatus | Literal[Unknown.UNKNOWN] | None:
        """Return the status of a batch, None if it was never issued. Raises MisdirectedError.

        It is read here only while all its jobs are at home and none has expired.
        """
        first, count = self._ids.read_batch(batch_id)
        if not first:
            return None
        board, now = self.board, time.monotonic()
        row = first % board.rows
        is_home = board.live[row] >> GENERATION_SHIFT == first // board.rows
        states = board.states(first, count)
        if not is_home or 0 in states:
            return UNKNOWN
        rows = [(first + at) % board.rows for at, state in enumerate(states) if state >= SUCCEEDED]
        if not all(board.kept(at, now) for at in rows) or board.live[row] >> GENERATION_SHIFT != first // board.rows:
            return UNKNOWN
        pending, last = unfinished(range(first, first + count), states)
        return BatchStatus(
            id=batch_id,
            first=first,
            count=count,
            pending=pending,
            succeeded=states.count(State.SUCCEEDED),
            failed=states.count(State.FAILED),
            cancelled=states.count(State.CANCELLED),
            expired=0,
            retry_after_ms=self.promises.when_all(last, pending, now) if last else 0,
        )

    def has_ended(self, sequence: int) -> bool:
        """Whether a job has finished, or has left the board: one word of it."""
        row = self.board.row(sequence)
        return row < 0 or self.board.live[row] & STATE_MASK >= SUCCEEDED
