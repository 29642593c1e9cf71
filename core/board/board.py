"""The board: every job has a row. Nothing else changes a state.

Retention is the ring coming round. A finished job is kept while it is among the last ``kept_jobs``
that ended as it did, and until a time that is fixed at its end. Numbers are given without a gap. If
the row of the next number has a job that is active or kept, that job moves to the annex (see rows).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence

from headway.core.board.rows import (
    ATTEMPT_MAX,
    ATTEMPT_ONE,
    ATTEMPT_SHIFT,
    GENERATION_SHIFT,
    PROGRESS_MASK,
    PROGRESS_SHIFT,
    STATE_MASK,
    Rows,
    annex_for,
    rows_for,
)
from headway.core.errors import IllegalMoveError
from headway.core.job import MOVES, TERMINAL, Reason, State
from headway.core.retention import Retention

# Members of an enum cost several times as much to look up (CPython 3.11), and a POST does so twenty
# times.
EMPTY, SCHEDULED, RUNNING = State.EMPTY, State.SCHEDULED, State.RUNNING
SUCCEEDED, CANCELLED, EXPIRED = State.SUCCEEDED, State.CANCELLED, State.EXPIRED
NONE = Reason.NONE
OUTCOMES = sorted(map(int, TERMINAL))

# MOVES as a table of bytes: 1 at [before << 4 | after] for a legal move. EMPTY is 0.
_LEGAL = bytearray(len(State) << 4)
for _before, _allowed in MOVES.items():
    for _after in _allowed - {State.EXPIRED}:
        _LEGAL[_before << 4 | _after] = 1


class Board(Rows):
    """Rows for the jobs of ``retention`` and ``active_most`` others, and the rule of which are kept.

    ``rows`` and ``annex`` are their numbers, by default those of ``rows_for`` and ``annex_for``.
    They are in the file ``fd`` if one is given: see Rows.
    """

    __slots__ = ("active_most", "kept_jobs", "kept_seconds", "on_move", "shortest_s")

    def __init__(
        self,
        retention: Retention,
        active_most: int,
        *,
        rows: int = 0,
        annex: int = 0,
        fd: int = -1,
    ) -> None:
        kept_jobs = retention.jobs
        super().__init__(rows or rows_for(kept_jobs, active_most), annex or annex_for(kept_jobs, active_most), fd)
        self.keep(retention, active_most)
        # Called after each move with the number of the job, its row, and the time. None: nobody
        # wants to know.
        self.on_move: Callable[[int, int, float], object] | None = None

    def keep(self, retention: Retention, active_most: int) -> None:
        """Keep as many finished jobs as ``retention`` says. Its seconds hold for jobs that end from now on."""
        self.kept_jobs = retention.jobs
        self.kept_seconds = retention.seconds
        # By outcome: the fewest seconds that a job that came to this board is kept.
        self.shortest_s = list(retention.seconds)
        self.active_most = active_most

    def open(self, state: State, tag_of: Callable[[int], int], task: int, priority: int, now: float) -> int:
        """Give the next job a row in ``state`` and return its sequence number.

        ``state`` is QUEUED or SCHEDULED, or EMPTY: then nobody sees the job until it moves to one
        of them.
        """
        if state and not _LEGAL[state]:
            raise IllegalMoveError(f"a job cannot begin as {state.name.lower()}")
        sequence = self.next_sequence
        row = sequence % self.rows
        before = self.live[row] & STATE_MASK
        if before and (before < SUCCEEDED or self.kept(row, now)):
            self.move_out(row, lambda other: self.readable(other, now))
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

    def open_many(
        self,
        states: Sequence[State],
        tags: Sequence[int],
        tasks: Sequence[int],
        priorities: Sequence[int],
        now: float,
    ) -> int:
        """Give rows to jobs with successive numbers, as ``open`` does, and return the first number.

        A column at a time: a fifth of the time that it takes job by job.
        """
        for state in {*states} - {EMPTY}:
            if not _LEGAL[state]:
                raise IllegalMoveError(f"a job cannot begin as {state.name.lower()}")
        first, count, begin = self.next_sequence, len(states), 0
        while begin < count:
            lap, row = divmod(first + begin, self.rows)
            end = min(count, begin + self.rows - row)
            rows, some, nothing = slice(row, row + end - begin), slice(begin, end), bytes(end - begin)
            for at, before in enumerate(bytes(self._states[rows]), row):
                if before and self.readable(at, now):
                    self.move_out(at, lambda other: self.readable(other, now))
            self.next_sequence = first + end
            self.live[rows] = array("Q", 8 * nothing)
            self.tag[rows] = array("Q", tags[some])
            self.submitted[rows] = array("d", [now]) * len(nothing)
            self.due[rows] = self.started[rows] = self.ended[rows] = array("d", 8 * nothing)
            self.task[rows] = array("H", tasks[some])
            self.priority[rows] = bytes(priorities[some])
            self.reason[rows] = self.has_result[rows] = nothing
            self.live[rows] = array("Q", [lap << GENERATION_SHIFT | PROGRESS_MASK | state for state in states[some]])
            begin = end
        for state in {*states}:
            self.count[state] += states.count(state)
        return first

    def move(self, sequence: int, after: State, now: float, reason: Reason = NONE, keep_s: float | None = None) -> int:
        """Move the job to ``after``, for a ``reason`` if that is an end, and return its row.

        A finished job is kept for ``keep_s``, or as long as others of its outcome. Raises
        IllegalMoveError if MOVES does not have the move.
        """
        row = self.at(sequence)
        word = self.live[row]
        before = word & STATE_MASK
        if word >> GENERATION_SHIFT != sequence // self.rows or not _LEGAL[before << 4 | after]:
            raise IllegalMoveError(f"job {sequence}: {State(before).name.lower()} cannot become {after.name.lower()}")
        if after == RUNNING:
            self.started[row] = now
            self.ask_at[row] = 0.0
            word = (word | PROGRESS_MASK) + ATTEMPT_ONE
        elif after >= SUCCEEDED:
            self.ended[row] = now
            self.kept_until[row] = now + self.seconds_kept(after, keep_s)
            self.last_place[after] = self.place[row] = self.last_place[after] + 1
            self.reason[row] = reason
        else:
            # An attempt failed, or its time has come: an earlier promise does not hold.
            self.ask_at[row] = 0.0
            if before == RUNNING and after == SCHEDULED:
                # It snoozed, which is no attempt.
                word -= ATTEMPT_ONE
        self.live[row] = word & ~STATE_MASK | after
        self.count[before] -= 1
        self.count[after] += 1
        if self.on_move is not None:
            self.on_move(sequence, row, now)
        return row

    def lose(self, row: int, now: float) -> None:
        """Show the unfinished job in ``row`` as lost, on a board that another process has left as it was.

        Its moves may have been cut short, so the row is all that is known of the job. The counts are left alone.
        """
        self.ended[row] = now
        self.kept_until[row] = now + self.kept_seconds[CANCELLED]
        self.last_place[CANCELLED] = self.place[row] = self.last_place[CANCELLED] + 1
        self.reason[row] = Reason.LOST
        self.live[row] = self.live[row] & ~STATE_MASK | CANCELLED

    def revise(self, sequence: int, state: State, priority: int, due: float, now: float) -> None:
        """Have a job that waits wait in ``state``, with ``priority``, until ``due``.

        0.0: it was ready from the start. Raises IllegalMoveError as ``move`` does.
        """
        row = self.at(sequence)
        if self.live[row] & STATE_MASK != state:
            self.move(sequence, state, now)
        self.priority[row] = priority
        self.due[row] = due
        self.ask_at[row] = 0.0

    def seconds_kept(self, outcome: State, keep_s: float | None) -> float:
        """Return how long a job that ends now is kept, at the longest. ``keep_s`` is its own wish."""
        if keep_s is None:
            return self.kept_seconds[outcome]
        self.shortest_s[outcome] = min(self.shortest_s[outcome], keep_s)
        return keep_s

    def show(self, sequence: int, state: State) -> None:
        """Show a job with a row that was opened EMPTY as QUEUED or SCHEDULED.

        It is a ``move`` that cannot be illegal.
        """
        self.live[sequence % self.rows] |= state
        self.count[EMPTY] -= 1
        self.count[state] += 1

    def forget_expired(self, now: float) -> None:
        """Empty the rows of expired jobs, so that a longer retention does not bring them back."""
        for row, state in enumerate(bytes(self._states[: self.rows + self.annex_used])):
            if state >= SUCCEEDED and not self.kept(row, now):
                self.empty(row)

    def report(self, sequence: int, attempt: int, percent: int, when: float) -> bool:
        """Write the progress, 0 to 100, that a running attempt had made at the time ``when``.

        An attempt that is finished is left alone: False.
        """
        row = self.row(sequence)
        word = self.live[row] if row >= 0 else EMPTY
        if word & STATE_MASK != RUNNING or word >> ATTEMPT_SHIFT & ATTEMPT_MAX != attempt:
            return False
        started = self.started[row]
        self.expected_end[row] = started + (when - started) * 100 / percent if percent else 0.0
        self.ask_at[row] = 0.0
        self.live[row] = word & ~PROGRESS_MASK | percent << PROGRESS_SHIFT
        return True

    def none_expired(self, first: int, states: bytes, now: float) -> bool:
        """Whether all jobs from ``first`` on are at home, and those in ``states`` cannot have expired yet.

        False says nothing. Since ``first`` was submitted no more jobs can have ended than were
        active then or came since. As long as it is at home, so are all that came after it.
        """
        row = self.row(first)
        if not 0 <= row < self.rows or first < self.unchanged_from:
            return False
        ended_most, age = self.active_most + self.next_sequence - first, now - self.submitted[row]
        for state in OUTCOMES:
            if state in states and (ended_most > self.kept_jobs[state] or age >= self.shortest_s[state]):
                return False
        return True

    def below(self, end: int, most: int) -> tuple[int, int]:
        """Return the number from which to look for jobs below ``end``, and where their homes end.

        There are at most ``most`` homes. Between two stretches there are none, however many numbers
        lie there. The first number is ``end`` itself if there is no job.
        """
        for begin, stop in reversed([*self.stretches, self._newest()]):
            if begin < end:
                if stop < end and self._numbers.between(stop, end):
                    return stop, stop
                stop = min(stop, end)
                return max(begin, stop - most), stop
        return (0, 0) if self._numbers.below(end) else (end, end)

    def states_in(self, row: int, end: int) -> bytes:
        """Return the states in the rows from ``row`` on and below ``end``."""
        return bytes(self._states[row:end])

    def moved_between(self, begin: int, end: int) -> Iterator[int]:
        """Yield the numbers of the jobs in the annex, from ``end`` down to ``begin``.

        ``end`` is not included. No job may move meanwhile.
        """
        return self._numbers.downwards(begin, end)

    def readable(self, row: int, now: float) -> bool:
        """Whether the job in ``row`` is unfinished, or can still be read."""
        return self.live[row] & STATE_MASK < SUCCEEDED or self.kept(row, now)

    def kept(self, row: int, now: float) -> bool:
        """Whether the job in ``row``, which is finished, can still be read."""
        outcome = self.live[row] & STATE_MASK
        return self.last_place[outcome] - self.place[row] < self.kept_jobs[outcome] and now < self.kept_until[row]

    def given_up(self) -> list[int]:
        """Return, by outcome, the place among its ends up to which jobs are not kept any more. Below 1: none."""
        return [last - kept for last, kept in zip(self.last_place, self.kept_jobs, strict=True)]
