"""The rows of an engine as a gateway reads them, and the polls that it has promised for them.

The engine writes while a gateway reads. A row is read between two readings of its live word: if both are the same,
what was read between is of one moment. That holds on processors that keep the order of stores and of loads, as x86-64
does. On others a gateway reads nothing but live words, and asks the engine for statuses.
"""

from __future__ import annotations

import mmap
import platform
import sys
from collections.abc import Mapping

from headway.core.board.rows import GENERATION_SHIFT, STATE_MASK, Rows
from headway.core.gateway.standing import Hello
from headway.core.job import Job
from headway.core.queue.outlook import Outlook
from headway.core.queue.schedule import Schedule
from headway.core.retry_after.estimate import Estimate
from headway.core.retry_after.promises import Promises

# Whether stores of another process are seen in their order.
KEEPS_ORDER = platform.machine().lower() in ("x86_64", "amd64", "i686", "i386")


class SeenRows(Rows):
    """The rows in the file ``fd`` of the engine that has said ``hello``."""

    __slots__ = ("kept_jobs", "situation")

    def __init__(self, hello: Hello, fd: int) -> None:
        super().__init__(hello.rows, hello.annex, fd, of_another=True)
        self.kept_jobs = hello.kept_jobs
        every = self.rows + self.annex
        # Of our own: when a client was asked to come again, and the live word of the job at that time.
        self.ask_at = memoryview(mmap.mmap(-1, every * 8)).cast("d")
        self.situation = memoryview(mmap.mmap(-1, every * 8)).cast("Q")

    def row(self, sequence: int) -> int:
        """Return the row of a job, -1 if it has left the board. It may change at any time."""
        row = self.home(sequence)
        # Its new place was written before its home was given away.
        return self.row_in_annex(sequence) if row < 0 else row

    def home(self, sequence: int) -> int:
        """Return the row of a job on the ring, -1 if it is not at home."""
        row = sequence % self.rows
        word = self.live[row]
        return row if word >> GENERATION_SHIFT == sequence // self.rows and word & STATE_MASK else -1

    def at(self, sequence: int) -> int:
        """Return the row of a job that was on the board a moment ago."""
        return max(self.row(sequence), 0)

    def is_as(self, row: int, sequence: int, word: int) -> bool:
        """Whether all that was read of ``row`` since it had this live word is of this job, in this situation."""
        return self.live[row] == word and self.sequence(row) == sequence

    def kept(self, row: int, now: float) -> bool:
        """Whether the job in ``row``, which is finished, can still be read."""
        outcome = self.live[row] & STATE_MASK
        return self.last_place[outcome] - self.place[row] < self.kept_jobs[outcome] and now < self.kept_until[row]

    def row_in_annex(self, sequence: int) -> int:
        """Return the row of a job in the annex, -1 if it is not there. All rows that were ever used are searched."""
        memory, number = self._memory.obj, sequence.to_bytes(8, sys.byteorder)
        assert isinstance(memory, mmap.mmap)
        at, end = self._moved_at, self._moved_at + self.annex_end[0] * 8
        while (at := memory.find(number, at, end)) >= 0:
            if not at % 8:
                return self.rows + (at - self._moved_at) // 8
            at += 1
        return -1


class SeenPromises(Promises):
    """The polls that this gateway has promised. A job in a new situation has no promise."""

    board: SeenRows

    def __init__(self, board: SeenRows, outlook: Outlook, estimate: Estimate) -> None:
        no_jobs: Mapping[int, Job] = {}
        super().__init__(board, outlook, estimate, no_jobs, Schedule())

    def retry_after_ms(self, row: int, word: int, ahead: int, now: float) -> int:
        """Return the milliseconds until the client asks for an unfinished job, and promise that poll."""
        self._look_again(row, word)
        return super().retry_after_ms(row, word, ahead, now)

    def while_held_ms(self, row: int, word: int, now: float) -> int:
        """Return and promise the same for a job that waits and whose task is held."""
        self._look_again(row, word)
        return super().while_held_ms(row, word, now)

    def _look_again(self, row: int, word: int) -> None:
        board = self.board
        if board.situation[row] != word:
            board.situation[row] = word
            board.ask_at[row] = 0.0

    def forget_all(self) -> None:
        """Forget all promises: something is new for many jobs."""
        self.board.situation[:] = memoryview(bytes(self.board.situation.nbytes)).cast("Q")
