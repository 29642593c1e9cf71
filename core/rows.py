"""The rows of the board: where each job's fields lie, and how jobs of before come back to theirs.

A ring of fixed-size rows: row = sequence number mod rows. One writer, the engine's event loop; any number of
readers. A row's live word is ONE aligned 64-bit word, so a reader in another process sees the old or the new,
never half:

    bits 63..32 generation (sequence // rows)   31..16 attempt   15..8 progress   7..0 state

The columns, one per field, lie one behind the other in one shared mapping whose size is fixed at start: memory is
bounded by settings, not by traffic.
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import msgspec
from headway.core.errors import IllegalMoveError
from headway.core.job import TERMINAL, State

STATE_MASK = 0xFF
PROGRESS_SHIFT = 8
PROGRESS_NONE = 0xFF
PROGRESS_MASK = 0xFF << PROGRESS_SHIFT
ATTEMPT_SHIFT = 16
ATTEMPT_ONE = 1 << ATTEMPT_SHIFT
ATTEMPT_MAX = 0xFFFF
GENERATION_SHIFT = 32
BELOW_GENERATION = (1 << GENERATION_SHIFT) - 1

# Number of what stands where in a row, the bits of the live word included. Whoever changes that counts it up: rows of
# another layout are not read by the next image of the program, and what they held is EXPIRED (core/carried.py).
LAYOUT = 1
# Bytes of the columns together: seven of 8 bytes, one of 2, three of 1.
ROW_BYTES = 7 * 8 + 2 + 3 * 1

# Members of an enum cost several times as much to look up (CPython 3.11).
EMPTY, SUCCEEDED, EXPIRED = State.EMPTY, State.SUCCEEDED, State.EXPIRED


class Record(msgspec.Struct, gc=False):
    """A row as one value, by which a job comes back to a board. Times as in the columns; 0.0: not yet."""

    sequence: int
    tag: int
    state: int
    task: int
    priority: int
    submitted: float
    due: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    attempt: int = 0
    # Percent, or None where the last attempt reported none.
    progress: int | None = None
    # Of a job that is over: its number among those that ended. The queue writes that of one that waits.
    place: int = 0
    reason: int = 0
    has_result: int = 0


def rows_for(kept_jobs: int, active_most: int) -> int:
    """Return how many rows it takes to keep ``kept_jobs`` jobs beside ``active_most`` that are not over."""
    return kept_jobs + 2 * active_most + 1


def rows_that_hold(sequences: Iterable[int], least: int, before: int) -> int:
    """Return how many rows, ``least`` or more, give each of ``sequences`` a row of its own.

    All of them must have had one among ``before`` rows. ``least`` is enough unless jobs have stayed active while the
    ring came round; a multiple of ``before`` always is, since numbers that differ mod n differ mod each multiple of n.
    """
    taken = bytearray(least)
    for sequence in sequences:
        if taken[sequence % least]:
            return -(-least // before) * before
        taken[sequence % least] = 1
    return least


def rows_for_all(sequences: Sequence[int], least: int) -> int:
    """Return how many rows, ``least`` or a few more, give each of ``sequences`` a row of its own.

    For few numbers, of which it is not known among how many rows they had one; else see ``rows_that_hold``.
    """
    rows = least
    while len({sequence % rows for sequence in sequences}) < len(sequences):
        rows += 1
    return rows


class Rows:
    """``rows`` rows, all empty.

    They are in the file ``fd`` where one is given, which from then on is theirs to close; those of an earlier board of
    as many rows are there at once.
    """

    def __init__(self, rows: int, fd: int = -1) -> None:
        self.rows = rows
        self.fd = fd
        if fd >= 0:
            weakref.finalize(self, os.close, fd)
            os.truncate(fd, self.size_bytes)
        self._memory = memoryview(mmap.mmap(fd, self.size_bytes))
        self._at = 0
        # Bytes of a row's part, and the column as bytes.
        self._columns: list[tuple[int, memoryview]] = []
        self.live = self._column(8).cast("Q")
        # The low byte of each live word.
        little = sys.byteorder == "little"
        self._states = self.live.cast("B")[0 if little else 7 :: 8]
        # Tag of the id, so that reading a status costs no hash.
        self.tag = self._column(8).cast("Q")
        # Where the job stands in the line it stands in: its ticket of the ready ring while it is queued;
        # its number among the jobs that ended once it is over.
        self.place = self._column(8).cast("Q")
        # Times are of time.monotonic, in seconds. ``due``: when a scheduled or retrying job becomes ready;
        # of a running one that has reported its progress, when it ends if it goes on like that, 0.0 where that is open.
        self.submitted = self._column(8).cast("d")
        self.due = self._column(8).cast("d")
        self.started = self._column(8).cast("d")
        # Of a job that is not over: when it is to be asked for, as was told last; 0.0: something is new since.
        self.ended = self._column(8).cast("d")
        # Index into the registry.
        self.task = self._column(2).cast("H")
        self.priority = self._column(1)
        # A job.Reason.
        self.reason = self._column(1)
        # 1 where the job returned something that was stored; it may have been given up since.
        self.has_result = self._column(1)
        # Sequence number that the next job gets, if its row is free. 0 is no job.
        self.next_sequence = 1
        # From this one on no job was there when the board had other settings.
        self.unchanged_from = 1
        # Jobs that ever ended.
        self.ended_total = 0
        # Jobs now in each state; for the terminal ones: jobs that ever ended so.
        self.count = [0] * len(State)

    def _column(self, width: int) -> memoryview:
        begin, self._at = self._at, self._at + self.rows * width
        column = self._memory[begin : self._at]
        self._columns.append((width, column))
        return column

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that the rows take once each was used."""
        return self.rows * ROW_BYTES

    def at(self, sequence: int) -> int:
        """Return the row of a job that is known to be on the board."""
        return sequence % self.rows

    def row(self, sequence: int) -> int:
        """Return the row that holds the job, or -1 where it has left the board."""
        row = sequence % self.rows
        word = self.live[row]
        if word >> GENERATION_SHIFT != sequence // self.rows or not word & STATE_MASK:
            return -1
        return row

    def state(self, sequence: int) -> int:
        """Return the state of the job, EXPIRED where it has left the board."""
        row = self.row(sequence)
        return State.EXPIRED if row < 0 else self.live[row] & STATE_MASK

    def states(self, first: int, span: int) -> bytes:
        """Return the state bytes of the rows of ``span`` sequence numbers from ``first`` on, whosoever they are."""
        begin = first % self.rows
        end = begin + span
        if end <= self.rows:
            return bytes(self._states[begin:end])
        return bytes(self._states[begin:]) + bytes(self._states[: end - self.rows])

    def attempt(self, row: int) -> int:
        """Return how many attempts at the job in ``row`` were begun."""
        return self.live[row] >> ATTEMPT_SHIFT & ATTEMPT_MAX

    def progress(self, row: int) -> int | None:
        """Return the percent that the last attempt at the job in ``row`` reported; None for none."""
        percent = self.live[row] >> PROGRESS_SHIFT & 0xFF
        return None if percent == PROGRESS_NONE else percent

    def restore(self, record: Record) -> bool:
        """Give a job of an earlier board its row again; return whether it is on the board now.

        Of two jobs that are over and whose sequence numbers share a row, the one that ended later has it, and one that
        is active has it before one that is over; the other is EXPIRED from then on. Raises IllegalMoveError where both
        are active: ``rows_that_hold`` tells how many rows they take. The order of the calls does not matter.
        """
        state, sequence, row = record.state, record.sequence, record.sequence % self.rows
        if not EMPTY < state < EXPIRED:
            raise IllegalMoveError(f"a job cannot come back as {State(state).name.lower()}")
        other = self.live[row] & STATE_MASK
        if other and other < SUCCEEDED and state < SUCCEEDED:
            raise IllegalMoveError(f"job {sequence} has no row: an active job has it")
        self.next_sequence = self.unchanged_from = max(self.next_sequence, sequence + 1)
        self.count[state] += 1
        if state >= SUCCEEDED:
            self.ended_total = max(self.ended_total, record.place)
            if other and (other < SUCCEEDED or self.place[row] > record.place):
                return False
        self.live[row] = 0
        self.tag[row] = record.tag
        self.place[row] = record.place
        self.submitted[row] = record.submitted
        self.due[row] = record.due
        self.started[row] = record.started
        self.ended[row] = record.ended
        self.task[row] = record.task
        self.priority[row] = record.priority
        self.reason[row] = record.reason
        self.has_result[row] = record.has_result
        progress = PROGRESS_NONE if record.progress is None else record.progress
        bits = record.attempt << ATTEMPT_SHIFT | progress << PROGRESS_SHIFT | state
        self.live[row] = sequence // self.rows << GENERATION_SHIFT | bits
        return True

    def restore_over(
        self,
        first: int,
        tags: Iterable[int],
        states: Sequence[int],
        attempts: Iterable[int],
        places: Sequence[int],
        submitted: Iterable[float],
        started: Iterable[float],
        ended: Iterable[float],
        tasks: Iterable[int],
        priorities: Iterable[int],
        reasons: Iterable[int],
        has_result: Iterable[int],
    ) -> None:
        """Do what ``restore`` does for jobs that are over and whose sequence numbers follow on ``first``, at once.

        They must lie side by side, with no other job in their rows: ``is_free``.
        """
        row, count = first % self.rows, len(states)
        rows = slice(row, row + count)
        self.next_sequence = self.unchanged_from = max(self.next_sequence, first + count)
        self.ended_total = max(self.ended_total, *places)
        for state in TERMINAL:
            self.count[state] += states.count(state)
        self.tag[rows] = array("Q", tags)
        self.place[rows] = array("Q", places)
        self.submitted[rows] = array("d", submitted)
        self.started[rows] = array("d", started)
        self.ended[rows] = array("d", ended)
        self.task[rows] = array("H", tasks)
        self.priority[rows] = bytes(priorities)
        self.reason[rows] = bytes(reasons)
        self.has_result[rows] = bytes(has_result)
        fixed = first // self.rows << GENERATION_SHIFT | PROGRESS_MASK
        words = (fixed | n << ATTEMPT_SHIFT | state for n, state in zip(attempts, states, strict=True))
        self.live[rows] = array("Q", words)

    def is_free(self, first: int, count: int) -> bool:
        """Whether ``count`` jobs from ``first`` on lie side by side on the board, in rows that no job was ever in."""
        row = first % self.rows
        return row + count <= self.rows and not any(self.live[row : row + count])

    def sequences(self) -> Iterator[int]:
        """Yield the sequence numbers that have a row, kept or not, in no order."""
        rows = self.rows
        return ((word >> GENERATION_SHIFT) * rows + row for row, word in enumerate(self.live) if word & STATE_MASK)

    def copy(self, other: Rows) -> None:
        """Take over all jobs of ``other``, into rows that are empty; ``rows_that_hold`` has told how many it takes.

        Neighbours of one generation are neighbours here too, so that they are copied a column at a time: a million rows
        in half a second, and one by one in five.
        """
        generations = [word >> GENERATION_SHIFT if word & STATE_MASK else -1 for word in other.live]
        for generation, run in groupby(range(other.rows), generations.__getitem__):
            rows = list(run)
            at, end = rows[0], rows[-1] + 1
            while generation >= 0 and at < end:
                lap, row = divmod(generation * other.rows + at, self.rows)
                size = min(end - at, self.rows - row)
                for (width, theirs), (_, ours) in zip(other._columns, self._columns, strict=True):
                    ours[row * width : (row + size) * width] = theirs[at * width : (at + size) * width]
                words = [lap << GENERATION_SHIFT | word & BELOW_GENERATION for word in self.live[row : row + size]]
                self.live[row : row + size] = memoryview(array("Q", words))
                at += size
        self.next_sequence, self.ended_total, self.count = other.next_sequence, other.ended_total, other.count[:]
        self.unchanged_from = other.next_sequence
