"""The rows of the board: where each job's fields are, also for jobs of an earlier board.

A ring of fixed-size rows: the *home* of a job is row = sequence number mod rows. A job that is
still needed when the ring comes round gives its home to the newcomer and moves to the *annex*, the
rows past the ring. So each number has a home to go to, no number is skipped, and a job of an
earlier board has a row whatever the settings were when it came.

There is one writer, the engine's event loop, and any number of readers. A row's live word is ONE
aligned 64-bit word, so a reader in another process sees the old or the new, never half:

    bits 63..32 generation (sequence // rows)   31..16 attempt   15..8 progress   7..0 state

A reader that does not find a job at home looks it up by its number. A move writes the new row,
then the number, and empties the old row last, so a job is always found in one of the two. Readers
in other processes search the numbers, up to the end that ``annex_end`` tells: where no row was ever
used there is nothing to find.

The columns, one per field, lie one behind the other in one shared mapping of a size fixed at start:
memory is bounded by settings, not by traffic. The annex is taken into use row by row, so it costs
as many rows as were ever needed.
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import msgspec
from headway.core.board.numbers import Numbers
from headway.core.errors import ConfigError, IllegalMoveError
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

# The number of the layout of a row, the bits of the live word included. A change of the layout
# counts it up: the next process does not read rows of another layout, and their jobs are EXPIRED
# (core/local/deploy.py).
LAYOUT = 3
# Bytes of the columns together: seven of 8 bytes, one of 2, three of 1.
ROW_BYTES = 7 * 8 + 2 + 3 * 1
# A row of the annex has the number of its job as well.
ANNEX_BYTES = ROW_BYTES + 8
# One word for each state.
PLACES_BYTES = 8 * len(State)
WORD_BYTES = 8
# Whenever a job moves to the annex, so many of its rows are looked at for finished jobs not kept.
SWEEP = 8
# In a list of jobs, two stretches of an earlier board's jobs are joined if at most so many numbers
# without a job lie between them.
GAP = 256
# A generation has 32 bits. With at least so many rows it lasts for 2^42 jobs.
ROWS_LEAST = 1024
# Numbers of a journal follow the clock (core/journal/schema.py). This many rows last for 2^47.
ROWS_LEAST_BY_CLOCK = 1 << 15

# Members of an enum cost several times as much to look up (CPython 3.11).
EMPTY, SUCCEEDED, EXPIRED = State.EMPTY, State.SUCCEEDED, State.EXPIRED


class Record(msgspec.Struct, gc=False):
    """A row as one value, to restore a job to a board. Times as in the columns. 0.0: not yet."""

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
    # Percent, or None if the last attempt reported none.
    progress: int | None = None
    # Of a finished job: its place, which is its number among those that ended so, and until when it
    # is kept. The queue writes the ticket of a waiting one.
    place: int = 0
    kept_until: float = 0.0
    reason: int = 0
    has_result: int = 0


def rows_for(kept_jobs: Sequence[int], active_most: int) -> int:
    """Return how many rows a ring has for ``active_most`` unfinished jobs and the finished ones.

    ``kept_jobs`` are kept of each outcome. Nearly all jobs end with one of them. So the ring has the
    rows for the largest number, and jobs of the others outlast them in the annex.
    """
    return max(max(kept_jobs) + active_most + 1, ROWS_LEAST)


def annex_for(kept_jobs: Sequence[int], active_most: int) -> int:
    """Return how many rows the annex has: enough whichever jobs are kept and active.

    At most ``sum(kept_jobs) + active_most`` jobs are needed at a time. All rows are swept once while
    a part of 1/SWEEP of them is taken. So with such a part to spare there is always a free row.
    """
    most = sum(kept_jobs) + active_most
    return most + most // (SWEEP - 1) + SWEEP


class Rows:
    """A ring of ``rows`` rows and an annex of ``annex``, all empty.

    They are in the file ``fd`` if one is given, which from then on is theirs to close. The jobs of
    an earlier board of as many rows are there at once, after ``find_moved``. If they are another
    process's, they can only be read.
    """

    # CPython 3.11 is slow to look up the attributes of an object without slots if it has over 30.
    __slots__ = (
        "__weakref__",
        "_at",
        "_columns",
        "_memory",
        "_moved_at",
        "_numbers",
        "_row_of",
        "_spare",
        "_states",
        "_swept",
        "_unused",
        "annex",
        "annex_end",
        "ask_at",
        "count",
        "due",
        "ended",
        "expected_end",
        "fd",
        "has_result",
        "kept_until",
        "last_place",
        "live",
        "moved",
        "next_sequence",
        "place",
        "priority",
        "reason",
        "rows",
        "started",
        "stretches",
        "submitted",
        "tag",
        "task",
        "ticket",
        "unchanged_from",
    )

    def __init__(self, rows: int, annex: int, fd: int = -1, *, of_another: bool = False) -> None:
        self.rows = rows
        self.annex = annex
        self.fd = fd
        if fd >= 0:
            # Not at the end of the process, which may leave the file to the next process.
            weakref.finalize(self, os.close, fd).atexit = False
            if not of_another:
                os.truncate(fd, self.size_bytes)
        access = mmap.ACCESS_READ if of_another else mmap.ACCESS_WRITE
        try:
            shared = mmap.mmap(fd, self.size_bytes, access=access)
        except OSError as error:
            raise ConfigError(
                f"retention and queue.size: the statuses of {rows} jobs take {self.size_bytes / 2**30:.1f} GiB "
                f"of memory: {error.strerror}. Keep fewer (retention.jobs)"
            ) from None
        if hasattr(mmap, "MADV_DONTFORK"):
            # Else a child that a task forks could change our rows.
            shared.madvise(mmap.MADV_DONTFORK)
        self._memory = memoryview(shared)
        self._at = 0
        # The bytes of a row in a column, and the column as bytes.
        self._columns: list[tuple[int, memoryview]] = []
        self.live = self._column(8).cast("Q")
        # The low byte of each live word.
        little = sys.byteorder == "little"
        self._states = self.live.cast("B")[0 if little else 7 :: 8]
        # Tag of the id, so that reading a status costs no hash.
        self.tag = self._column(8).cast("Q")
        # Of a queued job: its ticket of the ready ring. Of a finished one: its number among those
        # that ended so.
        self.ticket = self.place = self._column(8).cast("Q")
        # Times are of time.monotonic, in seconds.
        self.submitted = self._column(8).cast("d")
        # Of a scheduled or retrying job: when it becomes ready. Of a running one: when it ends if
        # it goes on as reported, 0.0 if that is open. Of a finished one: until when it is kept.
        self.due = self.expected_end = self.kept_until = self._column(8).cast("d")
        self.started = self._column(8).cast("d")
        # Of a finished job: when it ended. Of any other: the last promise of when to poll again,
        # 0.0 if something is new since.
        self.ended = self.ask_at = self._column(8).cast("d")
        # The sequence number in each row of the annex, 0 for none.
        self._moved_at = self._at
        self.moved = self._memory[self._at : self._at + annex * 8].cast("Q")
        self._at += annex * 8
        # By outcome: the place of the job that ended last.
        self.last_place = self._memory[self._at : self._at + PLACES_BYTES].cast("Q")
        self._at += PLACES_BYTES
        # Index into the registry.
        self.task = self._column(2).cast("H")
        self.priority = self._column(1)
        # A job.Reason.
        self.reason = self._column(1)
        # 1 if a result or an error of the job was stored. It may have been given up since, or forgotten at
        # a client's wish. 0 of a job that succeeded: it returned None.
        self.has_result = self._column(1)
        # How many rows of the annex were ever used, in an aligned word behind all columns.
        self.annex_end = self._memory[self.size_bytes - WORD_BYTES :].cast("Q")
        # Of the jobs in the annex: rows by sequence number, and the numbers in ascending order.
        self._row_of: dict[int, int] = {}
        self._numbers = Numbers()
        # Rows of the annex that came free, its first row that was never used, and its next to
        # sweep.
        self._spare: list[int] = []
        self._unused = self._swept = rows
        # The sequence number of the next job. 0 is no job.
        self.next_sequence = 1
        # All jobs from this number on came to this board, with its settings.
        self.unchanged_from = 1
        # Stretches of numbers with jobs of an earlier board, ascending: (begin, end), without the
        # end.
        self.stretches: list[tuple[int, int]] = []
        # Jobs now in each state. For terminal states: jobs that ever ended so.
        self.count = [0] * len(State)

    def _column(self, width: int) -> memoryview:
        begin, self._at = self._at, self._at + (self.rows + self.annex) * width
        column = self._memory[begin : self._at]
        self._columns.append((width, column))
        return column

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that the rows take once all were used."""
        columns = self.rows * ROW_BYTES + self.annex * ANNEX_BYTES + PLACES_BYTES
        return columns + -columns % WORD_BYTES + WORD_BYTES

    def at(self, sequence: int) -> int:
        """Return the row of a job known to be on the board. Valid until the next job comes."""
        # Row 0 is no row of the annex.
        return self._row_of.get(sequence) or sequence % self.rows

    def row(self, sequence: int) -> int:
        """Return the row of a job, -1 if it has left the board. Valid until the next job comes."""
        row = sequence % self.rows
        word = self.live[row]
        if word >> GENERATION_SHIFT == sequence // self.rows and word & STATE_MASK:
            return row
        return self._row_of.get(sequence, -1)

    def sequence(self, row: int) -> int:
        """Return the sequence number of the job in ``row``."""
        if row >= self.rows:
            return self.moved[row - self.rows]
        return (self.live[row] >> GENERATION_SHIFT) * self.rows + row

    def state(self, sequence: int) -> int:
        """Return the state of the job, EXPIRED if it has left the board."""
        row = self.row(sequence)
        return State.EXPIRED if row < 0 else self.live[row] & STATE_MASK

    def states(self, first: int, count: int) -> bytes:
        """Return the state bytes at the homes of ``count`` sequence numbers from ``first`` on.

        The rows may have other jobs.
        """
        begin = first % self.rows
        end = begin + count
        if end <= self.rows:
            return bytes(self._states[begin:end])
        return bytes(self._states[begin : self.rows]) + bytes(self._states[: end - self.rows])

    def attempt(self, row: int) -> int:
        """Return how many attempts at the job in ``row`` have begun."""
        return self.live[row] >> ATTEMPT_SHIFT & ATTEMPT_MAX

    def progress(self, row: int) -> int | None:
        """Return the percent reported by the last attempt at the job in ``row``, None for none."""
        percent = self.live[row] >> PROGRESS_SHIFT & 0xFF
        return None if percent == PROGRESS_NONE else percent

    # The annex.

    def move_out(self, row: int, needed: Callable[[int], bool]) -> None:
        """Move the job at home in ``row`` to the annex.

        ``needed`` returns whether the job of a row has to stay.
        """
        sequence, to = self.sequence(row), self._annex_row(needed)
        for width, column in self._columns[1:]:
            column[to * width : (to + 1) * width] = column[row * width : (row + 1) * width]
        self.live[to] = self.live[row]
        self._take_in(sequence, to)
        self.live[row] = 0

    def _take_in(self, sequence: int, row: int) -> None:
        self.moved[row - self.rows] = sequence
        self._row_of[sequence] = row
        self._numbers.add(sequence)

    def _annex_row(self, needed: Callable[[int], bool]) -> int:
        """Return a free row of the annex."""
        self.sweep(SWEEP, needed)
        if self._spare:
            return self._spare.pop()
        if self._unused == self.rows + self.annex:
            raise IllegalMoveError("the board's annex is full: more jobs are kept than its settings allow")
        self._unused += 1
        self.annex_end[0] = self.annex_used
        return self._unused - 1

    def sweep(self, count: int, needed: Callable[[int], bool]) -> None:
        """Look at the next ``count`` rows of the annex, and free those that are not ``needed``."""
        for _ in range(min(count, self._unused - self.rows)):
            row = self._swept if self._swept < self._unused else self.rows
            self._swept = row + 1
            if self.live[row] & STATE_MASK and not needed(row):
                self.empty(row)

    def empty(self, row: int) -> None:
        """Empty ``row``: its job has left the board."""
        if row >= self.rows:
            sequence = self.moved[row - self.rows]
            del self._row_of[sequence]
            self._numbers.remove(sequence)
            self.moved[row - self.rows] = 0
            self._spare.append(row)
        self.live[row] = 0

    @property
    def annex_used(self) -> int:
        """Rows of the annex that were ever used."""
        return self._unused - self.rows

    def find_moved(self, annex_used: int) -> None:
        """Find the jobs in the first ``annex_used`` annex rows of an earlier board's file."""
        self._unused = self.rows + annex_used
        self.annex_end[0] = annex_used
        for row in range(self.rows, self._unused):
            sequence = self.moved[row - self.rows]
            if sequence:
                self._row_of[sequence] = row
            else:
                self._spare.append(row)
        for sequence in sorted(self._row_of):
            self._numbers.add(sequence)

    # Jobs of an earlier board.

    def restore(self, record: Record) -> None:
        """Give a job of an earlier board a row again. The order of the calls does not matter.

        Raises IllegalMoveError if it has a row already, or if no row can have its state.
        """
        state, sequence, row = record.state, record.sequence, record.sequence % self.rows
        if not EMPTY < state < EXPIRED:
            raise IllegalMoveError(f"a job cannot be restored as {State(state).name.lower()}")
        if self.row(sequence) >= 0:
            raise IllegalMoveError(f"job {sequence} is on the board already")
        self.next_sequence = self.unchanged_from = max(self.next_sequence, sequence + 1)
        self.count[state] += 1
        if state >= SUCCEEDED:
            self.last_place[state] = max(self.last_place[state], record.place)
        moved = self.live[row] & STATE_MASK
        if moved:
            row = self._annex_row(lambda _: True)
        self.tag[row] = record.tag
        self.place[row] = record.place
        self.submitted[row] = record.submitted
        self.due[row] = record.kept_until if state >= SUCCEEDED else record.due
        self.started[row] = record.started
        self.ended[row] = record.ended
        self.task[row] = record.task
        self.priority[row] = record.priority
        self.reason[row] = record.reason
        self.has_result[row] = record.has_result
        progress = PROGRESS_NONE if record.progress is None else record.progress
        bits = record.attempt << ATTEMPT_SHIFT | progress << PROGRESS_SHIFT | state
        self.live[row] = sequence // self.rows << GENERATION_SHIFT | bits
        if moved:
            self._take_in(sequence, row)
        self.stretches.append((sequence, sequence + 1))

    def restore_over(
        self,
        first: int,
        *,
        tags: Iterable[int],
        states: Sequence[int],
        attempts: Iterable[int],
        places: Sequence[int],
        submitted: Iterable[float],
        started: Iterable[float],
        ended: Iterable[float],
        kept_until: Iterable[float],
        tasks: Iterable[int],
        priorities: Iterable[int],
        reasons: Iterable[int],
        has_result: Iterable[int],
    ) -> None:
        """Restore finished jobs with successive sequence numbers from ``first`` on, all at once.

        They must lie side by side, with no other job in their rows: ``is_free``.
        """
        row, count = first % self.rows, len(states)
        rows = slice(row, row + count)
        self.next_sequence = self.unchanged_from = max(self.next_sequence, first + count)
        last_place = self.last_place
        for state, place in zip(states, places, strict=True):
            if place > last_place[state]:
                last_place[state] = place
        for state in TERMINAL:
            self.count[state] += states.count(state)
        self.tag[rows] = array("Q", tags)
        self.place[rows] = array("Q", places)
        self.submitted[rows] = array("d", submitted)
        self.started[rows] = array("d", started)
        self.ended[rows] = array("d", ended)
        self.kept_until[rows] = array("d", kept_until)
        self.task[rows] = array("H", tasks)
        self.priority[rows] = bytes(priorities)
        self.reason[rows] = bytes(reasons)
        self.has_result[rows] = bytes(has_result)
        fixed = first // self.rows << GENERATION_SHIFT | PROGRESS_MASK
        words = (fixed | n << ATTEMPT_SHIFT | state for n, state in zip(attempts, states, strict=True))
        self.live[rows] = array("Q", words)
        self.stretches.append((first, first + count))

    def is_free(self, first: int, count: int) -> bool:
        """Whether ``count`` jobs from ``first`` on lie side by side on the ring, in unused rows."""
        row = first % self.rows
        return row + count <= self.rows and not any(self.live[row : row + count])

    def begin_stretch(self, next_sequence: int) -> None:
        """Go on with ``next_sequence``: all jobs so far are of an earlier board.

        Their stretches are put in order, and those that lie close together are joined.
        """
        self.stretches.append(self._newest())
        self.next_sequence = self.unchanged_from = next_sequence
        joined: list[tuple[int, int]] = []
        for begin, end in sorted(self.stretches):
            if joined and begin - joined[-1][1] <= GAP:
                joined[-1] = joined[-1][0], max(joined[-1][1], end)
            else:
                joined.append((begin, end))
        self.stretches = joined

    def _newest(self) -> tuple[int, int]:
        """Return the stretch of the jobs that came to this board, as far as they may be at home."""
        return max(self.unchanged_from, self.next_sequence - self.rows), self.next_sequence

    def copy(self, other: Rows) -> None:
        """Take over all jobs of ``other`` into empty rows.

        Neighbours of one generation are neighbours here too, so that they are copied a column at a
        time: a million rows in half a second, and one by one in five.
        """
        generations = [word >> GENERATION_SHIFT if word & STATE_MASK else -1 for word in other.live[: other.rows]]
        for generation, run in groupby(range(other.rows), generations.__getitem__):
            rows = list(run)
            at, end = rows[0], rows[-1] + 1
            while generation >= 0 and at < end:
                lap, row = divmod(generation * other.rows + at, self.rows)
                size = min(end - at, self.rows - row)
                if any(self.live[row : row + size]):
                    for one in range(at, at + size):
                        self._copy_row(other, one)
                else:
                    self._copy_rows(other, at, row, size, lap)
                at += size
        self.stretches = [*other.stretches, other._newest()]
        for row in range(other.rows, other._unused):
            if other.live[row] & STATE_MASK:
                self._copy_row(other, row)
                # It may have a home here.
                sequence = other.sequence(row)
                self.stretches.append((sequence, sequence + 1))
        self.last_place[:], self.count = other.last_place, other.count[:]
        self.begin_stretch(other.next_sequence)

    def _copy_rows(self, other: Rows, at: int, row: int, size: int, lap: int) -> None:
        for (width, theirs), (_, ours) in zip(other._columns, self._columns, strict=True):
            ours[row * width : (row + size) * width] = theirs[at * width : (at + size) * width]
        words = [lap << GENERATION_SHIFT | word & BELOW_GENERATION for word in self.live[row : row + size]]
        self.live[row : row + size] = memoryview(array("Q", words))

    def _copy_row(self, other: Rows, at: int) -> None:
        sequence = other.sequence(at)
        lap, row = divmod(sequence, self.rows)
        moved = self.live[row] & STATE_MASK
        if moved:
            row = self._annex_row(lambda _: True)
        self._copy_rows(other, at, row, 1, lap)
        if moved:
            self._take_in(sequence, row)
