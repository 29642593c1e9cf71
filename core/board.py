"""The board: every job has a row; a job never moves, cursors do. The only place where a state changes.

Retention is the ring coming round. A job that is over is kept while it is among the last ``kept_jobs`` that ended
and ended less than ``kept_seconds`` ago. The sequence skips a row whose job is still active or still kept. With
twice as many spare rows as jobs can be active, skips are rare and a free row is always found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from headway.core.errors import IllegalMoveError
from headway.core.job import MOVES, State
from headway.core.rows import ATTEMPT_ONE, GENERATION_SHIFT, PROGRESS_MASK, PROGRESS_SHIFT, STATE_MASK, Rows, rows_for

# Rows whose states are copied at once.
STRETCH = 1 << 16

# Members of an enum cost several times as much to look up (CPython 3.11), which a POST does twenty times.
EMPTY, RUNNING, SUCCEEDED, EXPIRED = State.EMPTY, State.RUNNING, State.SUCCEEDED, State.EXPIRED

# MOVES as a table of bytes: 1 at [before << 4 | after] where the move is legal; EMPTY is 0.
_LEGAL = bytearray(len(State) << 4)
for _before, _allowed in MOVES.items():
    for _after in _allowed - {State.EXPIRED}:
        _LEGAL[_before << 4 | _after] = 1


class Board(Rows):
    """``rows`` rows, or as many as ``rows_for`` says, and the rule of which are kept.

    They are in the file ``fd`` where one is given: see Rows.
    """

    def __init__(self, kept_jobs: int, kept_seconds: float, active_most: int, rows: int = 0, fd: int = -1) -> None:
        super().__init__(rows or rows_for(kept_jobs, active_most), fd)
        self.kept_jobs = kept_jobs
        self.kept_seconds = kept_seconds
        self.active_most = active_most

    def open(self, state: State, tag_of: Callable[[int], int], task: int, priority: int, now: float) -> int:
        """Give the next job a row in ``state`` and return its sequence number.

        QUEUED or SCHEDULED; or EMPTY, and nobody sees the job until it is moved to one of them.
        """
        if state and not _LEGAL[state]:
            raise IllegalMoveError(f"a job cannot begin as {state.name.lower()}")
        sequence = self.next_sequence
        row = sequence % self.rows
        if self.live[row] & STATE_MASK:
            while not self._free(row, now):
                sequence += 1
                row = sequence % self.rows
        self.next_sequence = sequence + 1
        self.live[row] = 0
        self.tag[row] = tag_of(sequence)
        self.submitted[row] = now
        self.due[row] = self.started[row] = self.ended[row] = 0.0
        self.task[row] = task
        self.priority[row] = priority
        self.reason[row] = self.has_result[row] = 0
        self.live[row] = sequence // self.rows << GENERATION_SHIFT | PROGRESS_MASK | state
        self.count[state] += 1
        return sequence

    def seek(self, count: int, span_most: int, now: float) -> bool:
        """Go on to where the next ``count`` jobs get rows within ``span_most`` sequence numbers; False for nowhere.

        As a rule they lie side by side where the next job would lie anyway. Where held rows are scattered among the
        free ones the span is longer, and where it would be too long some free rows are left for the next round.
        """
        free: deque[int] = deque(maxlen=count)
        for sequence in range(self.next_sequence, self.next_sequence + self.rows + span_most):
            if self._free(sequence % self.rows, now):
                free.append(sequence)
                if len(free) == count and sequence - free[0] < min(span_most, self.rows):
                    self.next_sequence = free[0]
                    return True
        return False

    def move(self, sequence: int, after: State, now: float) -> None:
        """Take the job to ``after``; raises IllegalMoveError where MOVES does not have the move."""
        row = sequence % self.rows
        word = self.live[row]
        before = word & STATE_MASK
        if word >> GENERATION_SHIFT != sequence // self.rows or not _LEGAL[before << 4 | after]:
            raise IllegalMoveError(f"job {sequence} is {State(before).name.lower()}, not to be {after.name.lower()}")
        if after == RUNNING:
            self.started[row] = now
            self.ended[row] = 0.0
            word = (word | PROGRESS_MASK) + ATTEMPT_ONE
        elif after >= SUCCEEDED:
            self.ended[row] = now
            self.ended_total += 1
            self.place[row] = self.ended_total
        self.live[row] = word & ~STATE_MASK | after
        self.count[before] -= 1
        self.count[after] += 1

    def show(self, sequence: int, state: State) -> None:
        """Let a job whose row was opened EMPTY be seen as QUEUED or SCHEDULED: a ``move`` that cannot be illegal."""
        self.live[sequence % self.rows] |= state
        self.count[EMPTY] -= 1
        self.count[state] += 1

    def forget_expired(self, now: float) -> None:
        """Empty the rows of jobs that cannot be read any more, so that a longer retention does not bring them back."""
        for row, state in enumerate(bytes(self._states)):
            if state >= SUCCEEDED and not self.kept(row, now):
                self.live[row] = 0

    def report(self, sequence: int, attempt: int, percent: int, when: float) -> None:
        """Write the progress, 0 to 100, that a running attempt had made ``when``; one that is over is left alone."""
        row = self.row(sequence)
        if row >= 0 and self.live[row] & STATE_MASK == State.RUNNING and self.attempt(row) == attempt:
            started = self.started[row]
            self.due[row] = started + (when - started) * 100 / percent if percent else 0.0
            self.ended[row] = 0.0
            self.live[row] = self.live[row] & ~PROGRESS_MASK | percent << PROGRESS_SHIFT

    def none_expired(self, first: int, now: float) -> bool:
        """Whether no job from ``first`` on can have expired yet; False says nothing.

        Since ``first`` was submitted no more jobs can have ended than were active then or came since.
        """
        row = self.row(first)
        ended_most = self.active_most + self.next_sequence - first
        return (
            row >= 0
            and first >= self.unchanged_from
            and ended_most <= self.kept_jobs
            and now - self.submitted[row] < self.kept_seconds
        )

    def in_state(self, state: State, begin: int, end: int) -> Iterator[int]:
        """Yield the jobs in ``state`` of the sequence numbers from ``end``, not included, down to ``begin``.

        The states of neighbouring rows are looked through as a slice of bytes, a stretch of the ring at a time.
        """
        while end > begin:
            # The last sequence number of the stretch, which ends where the ring begins anew.
            last = end - 1
            first = max(last - last % self.rows, begin, end - STRETCH)
            states = bytes(self._states[first % self.rows : last % self.rows + 1])
            at = len(states)
            while (at := states.rfind(state, 0, at)) >= 0:
                if self.row(first + at) >= 0:
                    yield first + at
            end = first

    def kept(self, row: int, now: float) -> bool:
        """Whether the job in ``row``, which is over, can still be read."""
        return self.ended_total - self.place[row] < self.kept_jobs and now - self.ended[row] < self.kept_seconds

    def _free(self, row: int, now: float) -> bool:
        state = self.live[row] & STATE_MASK
        return not state or (state >= SUCCEEDED and not self.kept(row, now))
