"""Which jobs come before which, and how many can begin: what a position and a Retry-After go by.

It changes nothing. The queue is one that jobs come to. A gateway has one of the lines of its engine, as it
last heard of them (core/gateway/lines.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headway.core.board.rows import Rows
from headway.core.job import State
from headway.core.order import OWN_MOST
from headway.core.queue.ready import Limit, Line

RUNNING = State.RUNNING


class Outlook:
    """The lines of jobs that are ready. Jobs stand in the line of their task: see the queue."""

    board: Rows
    lines: list[Line]
    of_server: Line
    # Jobs that stand in ``lines``.
    ready: int
    # By task, the index of its line.
    line_numbers: Sequence[int]
    # By task: the line in which its jobs stand as a rule, the line for the next of them, and the line of one that is
    # held, or was and whose line is not empty yet.
    _usual: Sequence[Line]
    _line_of: list[Line]
    _lines_apart: Mapping[int, Line]
    _limits: Sequence[Limit]

    def ahead(self, row: int, delayed: bool = False) -> int:
        """Return how many ready jobs come before the one in ``row``, for a ``delayed`` one now.

        Jobs of a line that is at its limit count, although they may be overtaken. Those of held
        tasks do not, but for a job of the same task. For that it is as if the hold ended now.
        """
        board = self.board
        line, priority = self._line_of[board.task[row]], board.priority[row]
        if self._lines_apart and not delayed:
            line = self._line_at(row)
        ticket = None if delayed else board.ticket[row]
        ahead = line.ahead(priority, ticket)
        if (line.count == self.ready and not line.is_aside) or line is self.of_server:
            return ahead
        sequence = None if ticket is None else line.at(priority, ticket)
        return ahead + sum(other.before(priority, sequence) for other in self.lines if other is not line)

    def free(self, task: int, workers: int) -> int:
        """Return how many more jobs of the line of ``task`` can begin now."""
        line = self._line_of[task]
        free = OWN_MOST if line is self.of_server else workers - self.board.count[RUNNING]
        for limit in line.limits:
            if limit.most - limit.running < free:
                free = limit.most - limit.running
        return free

    def is_alone(self, task: int) -> bool:
        """Whether all ready jobs stand in the line of ``task``."""
        return len(self._line_of[task]) == self.ready

    def own(self, row: int) -> int:
        """Return how many jobs stand before the one in ``row`` in its line."""
        board = self.board
        return self._line_at(row).ahead(board.priority[row], board.ticket[row])

    def others(self, row: int) -> list[tuple[int, int]]:
        """Return (line, count) for each other line with jobs taken before the one in ``row``.

        Lines at their limit are left out: their jobs do not take the place that comes free next.
        """
        board = self.board
        line, priority = self._line_at(row), board.priority[row]
        others = [other for other in self.lines if other.ready and other is not line and other.blocking is None]
        sequence = line.at(priority, board.ticket[row])
        return [(other.number, other.before(priority, sequence)) for other in others]

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

    def _line_at(self, row: int) -> Line:
        """Return the line in which the ready job in ``row`` stands."""
        board = self.board
        task = board.task[row]
        apart = self._lines_apart.get(task) if self._lines_apart else None
        if apart is not None and apart.has(board.priority[row], board.ticket[row], board.sequence(row)):
            return apart
        return self._usual[task]

    def rate_above(self, priority: int, now: float) -> float:
        """Return how many jobs of higher priorities become ready in a second of late."""
        raise NotImplementedError
