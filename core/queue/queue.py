"""The jobs that wait: lines of ready jobs, and a schedule of delayed ones.

The bound ``size`` counts all waiting jobs: queued, scheduled and retrying. A job to retry was
admitted before and is let in past the bound. So at most ``size`` jobs stand here, and as many more
as there are workers.

The job of the highest priority is claimed, and of these the one that was submitted first. Each
FAIR_EVERY-th claim takes the job that was submitted first of all, so that no job waits for ever,
however many jobs of higher priorities come: docs/adr/0011.

Jobs stand in the line of their task. Most tasks share the first line. A task with a limit on how
many of its jobs may run at once has a line of its own. A line at its limit is passed over, so that
no other job waits behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from headway.core.board.board import RUNNING, Board
from headway.core.queue.ready import PRIORITIES, Limit, Line
from headway.core.queue.schedule import Schedule

# Of so many claims one goes to the oldest job, whatever its priority.
FAIR_EVERY = 64
# The weight of the last second in the rate at which jobs come.
RATE_WEIGHT = 0.2


class Queue:
    """All jobs that wait, each a sequence number with its row on ``board``.

    ``most`` is how many may stand here in all: ``size`` that are let in, and those that come back
    to be retried. ``limits`` has the limits of each task by its index. Tasks with the same limits
    share a line.
    """

    def __init__(self, board: Board, size: int, most: int, limits: Sequence[tuple[Limit, ...]]) -> None:
        self.board = board
        self.size = size
        lines = {under: Line(most, under) for under in limits}
        self.lines = list(lines.values())
        self._line_of = [lines[under] for under in limits]
        self._limits = list({limit: None for under in lines for limit in under})
        # By task, the index of its line.
        self.line_numbers = [self.lines.index(line) for line in self._line_of]
        self.delayed = Schedule()
        # Places of jobs that were admitted and do not stand here yet.
        self.reserved = 0
        # The payloads of all unfinished jobs, running and uncommitted ones included.
        self.payload_bytes = 0
        # Jobs that stand in lines.
        self.ready = 0
        # By task, its jobs among these: the one that has been ready longest comes first.
        self._ready_of: list[dict[int, None]] = [{} for _ in limits]
        self._until_fair = FAIR_EVERY
        # By priority: jobs that became ready so far, their number at ``_rated_at``, and how many
        # become ready in a second of late.
        self._came = [0] * PRIORITIES
        self._rated = [0] * PRIORITIES
        self._rates = [0.0] * PRIORITIES
        # The sum of the rates above each priority.
        self._above = [0.0] * PRIORITIES
        # Of time.monotonic. 0.0: nothing was rated yet.
        self._rated_at = 0.0

    def __len__(self) -> int:
        return self.ready + len(self.delayed)

    def __repr__(self) -> str:
        return f"<Queue {self.ready} ready, {len(self.delayed)} delayed, of {self.size}>"

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that the rings take once all slots were used."""
        return sum(ring.slots * 8 for line in self.lines for ring in line.rings)

    @property
    def room(self) -> int:
        """How many new jobs can be accepted, below 0 if retrying jobs stand past the bound."""
        return self.size - self.ready - len(self.delayed.when) - self.reserved

    def push(self, sequence: int) -> None:
        """Put a ready job at the end of its line."""
        board = self.board
        row = board.at(sequence)
        task, priority = board.task[row], board.priority[row]
        line = self._line_of[task]
        try:
            board.ticket[row] = line.push(sequence, priority)
        except IndexError:
            for moved, ticket in line.rings[priority].compact():
                board.ticket[board.at(moved)] = ticket
            board.ticket[row] = line.push(sequence, priority)
        self.ready += 1
        self._ready_of[task][sequence] = None
        self._came[priority] += 1

    def delay(self, sequence: int, due: float) -> None:
        """Keep a job until ``due``, of time.monotonic."""
        self.board.due[self.board.at(sequence)] = due
        self.delayed.add(sequence, due)

    def claim(self) -> int:
        """Take the next job and return its sequence number, 0 if none may run now."""
        if not self.ready:
            return 0
        if self._until_fair == 1:
            sequence = self._claim_oldest()
        elif len(self.lines) == 1:
            sequence = self.lines[0].pop()
        else:
            lines = [line for line in self.lines if line.ready]
            sequence = (lines[0] if len(lines) == 1 else max(lines, key=_rank)).pop()
        if sequence:
            self.ready -= 1
            board = self.board
            del self._ready_of[board.task[board.at(sequence)]][sequence]
            self._until_fair = self._until_fair - 1 or FAIR_EVERY
        return sequence

    def _claim_oldest(self) -> int:
        firsts = [(*line.first(), line) for line in self.lines]
        sequence, priority, line = min(firsts, key=lambda first: first[0] or inf)
        return line.take(priority) if sequence else 0

    def release(self, task: int) -> None:
        """Count a claimed job of ``task`` as ended: its line has room for another."""
        for limit in self._line_of[task].limits:
            limit.running -= 1

    def remove(self, sequence: int) -> None:
        """Take out a job that waits."""
        if not self.delayed.remove(sequence):
            board, row = self.board, self.board.at(sequence)
            task = board.task[row]
            self._line_of[task].remove(board.priority[row], board.ticket[row])
            del self._ready_of[task][sequence]
            self.ready -= 1

    def ahead(self, row: int, delayed: bool = False) -> int:
        """Return how many ready jobs come before the one in ``row``, for a ``delayed`` one now.

        Jobs of a line that is at its limit count, although they may be overtaken.
        """
        board = self.board
        line, priority = self._line_of[board.task[row]], board.priority[row]
        ticket = None if delayed else board.ticket[row]
        ahead = line.ahead(priority, ticket)
        if len(line) == self.ready:
            return ahead
        sequence = None if ticket is None else line.at(priority, ticket)
        return ahead + sum(other.before(priority, sequence) for other in self.lines if other is not line)

    def free(self, task: int, workers: int) -> int:
        """Return how many more jobs of the line of ``task`` can begin now."""
        free = workers - self.board.count[RUNNING]
        for limit in self._line_of[task].limits:
            if limit.most - limit.running < free:
                free = limit.most - limit.running
        return free

    def is_alone(self, task: int) -> bool:
        """Whether all ready jobs stand in the line of ``task``."""
        return len(self._line_of[task]) == self.ready

    def own(self, row: int) -> int:
        """Return how many jobs stand before the one in ``row`` in its line."""
        board = self.board
        return self._line_of[board.task[row]].ahead(board.priority[row], board.ticket[row])

    def others(self, row: int) -> list[tuple[int, int]]:
        """Return (line, count) for each other line with jobs taken before the one in ``row``.

        Lines at their limit are left out: their jobs do not take the place that comes free next.
        """
        board = self.board
        line, priority = self._line_of[board.task[row]], board.priority[row]
        others = [(n, o) for n, o in enumerate(self.lines) if o.ready and o is not line and o.blocking is None]
        sequence = line.at(priority, board.ticket[row])
        return [(number, other.before(priority, sequence)) for number, other in others]

    def at_once(self, task: int, workers: int) -> tuple[int, int]:
        """Return how many jobs can run at once: of the line of ``task``, of all not at a limit."""
        line, shared = self._line_of[task], workers
        if [limit for limit in self._limits if limit.running >= limit.most]:
            blocking = {limit for other in self.lines if other is not line and (limit := other.blocking) is not None}
            shared = max(workers - sum(limit.running for limit in blocking), 1)
        at_once = shared
        for limit in line.limits:
            if limit.most < at_once:
                at_once = max(limit.most, 1)
        return at_once, shared

    def rate_above(self, priority: int, now: float) -> float:
        """Return how many jobs of higher priorities become ready in a second of late."""
        since = now - self._rated_at
        if since >= 1.0:
            if self._rated_at:
                weight = 1.0 - (1.0 - RATE_WEIGHT) ** since
                counts = zip(self._rates, self._came, self._rated, strict=True)
                self._rates = [rate + ((came - before) / since - rate) * weight for rate, came, before in counts]
                self._above = [sum(self._rates[above:]) for above in range(1, PRIORITIES + 1)]
            self._rated, self._rated_at = self._came[:], now
        return self._above[priority]

    def length(self, task: int) -> int:
        """Return how many jobs of ``task`` are ready."""
        return len(self._ready_of[task])

    def oldest(self, task: int) -> int:
        """Return the job of ``task`` that has been ready longest, 0 if none is ready."""
        return next(iter(self._ready_of[task]), 0)


def _rank(line: Line) -> tuple[int, int]:
    """Return the sort key of a line: the higher priority, then the job that was submitted first."""
    priority = line.top
    return (priority, -line.rings[priority].first()) if priority >= 0 else (-1, 0)
