"""The lines of ready jobs as a gateway sees them: counts, and the first and the last job of each ring.

What stands between two jobs is taken to be evenly spread over their numbers.
"""

from __future__ import annotations

from headway.core.board.rows import Rows
from headway.core.gateway.standing import Hello, LineStanding, RingStanding, Standing
from headway.core.queue.outlook import Outlook
from headway.core.queue.ready import PRIORITIES, Limit, Line
from headway.core.queue.ring import Ring


class SeenRing(Ring):
    """A ring of another process."""

    def __init__(self, standing: RingStanding) -> None:
        self.head = standing.head
        self.tail = standing.tail
        self._count = standing.entries
        self._first = standing.first
        self._last = standing.last

    def __len__(self) -> int:
        return self._count

    def first(self) -> int:
        """Return the first entry, 0 if there is none."""
        return self._first

    def at(self, ticket: int) -> int:
        """Return about the entry that has ``ticket``."""
        behind = ticket - self.head
        return self._first + (self._last - self._first) * behind // max(self.tail - 1 - self.head, 1)

    def ahead(self, ticket: int) -> int:
        """Return about how many entries stand before the one that has ``ticket``, which may have come since.

        Where some were taken out, nobody knows which: the others are taken to be evenly spread.
        """
        if ticket >= self.tail:
            return self._count + ticket - self.tail
        last = max(self.tail - 1 - self.head, 1)
        return round(max(ticket - self.head, 0) * max(self._count - 1, 0) / last)

    def before(self, sequence: int) -> int:
        """Return about how many entries are less than ``sequence``."""
        if sequence <= self._first:
            return 0
        if sequence > self._last:
            return self._count
        return self._count * (sequence - self._first) // (self._last - self._first)


NO_JOBS = SeenRing(RingStanding())


class SeenLine(Line):
    """A line of another process."""

    def __init__(self, standing: LineStanding | None, limits: list[Limit]) -> None:
        self.rings: list[Ring] = [NO_JOBS] * PRIORITIES
        self.limits = ()
        self.number = self.ready = self.count = 0
        self.is_aside = False
        if standing is None:
            return
        self.limits = tuple(limits[at] for at in standing.limits)
        self.number = standing.number
        self.is_aside = standing.is_aside
        for ring in standing.rings:
            self.rings[ring.priority] = SeenRing(ring)
            self.ready |= 1 << ring.priority
            self.count += ring.entries

    def has(self, priority: int, ticket: int, sequence: int) -> bool:
        """Whether a job with ``ticket`` may stand here. Nobody knows which."""
        ring = self.rings[priority]
        return ring.head <= ticket < ring.tail


class SeenLines(Outlook):
    """The lines of the engine that has said ``hello``."""

    def __init__(self, board: Rows, hello: Hello) -> None:
        self.board = board
        self._usual_at = hello.usual
        self._above = [0.0] * PRIORITIES
        self.ready = 0
        self.lines = [SeenLine(None, []) for _ in range(max(hello.usual, default=0) + 1)]
        self.of_server = self.lines[-1]
        self._limits = []
        self._lines_apart = {}
        self._usual = self._line_of = [self.lines[at] for at in hello.usual]
        self.line_numbers = hello.line_numbers

    def see(self, standing: Standing) -> None:
        """Go by how things stand now."""
        limits = [Limit(most) for most, _ in standing.limits]
        for limit, (_, running) in zip(limits, standing.limits, strict=True):
            limit.running = running
        lines = [SeenLine(line, limits) for line in standing.lines]
        self._lines_apart = {task: lines[at] for task, at in standing.apart.items()}
        usual = lines[: len(lines) - len(standing.apart)]
        self.of_server = usual.pop()
        self.lines = [*usual, *(line for line in self._lines_apart.values() if not line.is_aside)]
        self._limits = limits
        self._usual = [lines[at] for at in self._usual_at]
        self._line_of = [
            self._lines_apart[task] if task in self._lines_apart and self._lines_apart[task].is_aside else line
            for task, line in enumerate(self._usual)
        ]
        self.ready = standing.ready
        self._above = standing.above

    def rate_above(self, priority: int, now: float) -> float:
        """Return how many jobs of higher priorities become ready in a second."""
        return self._above[priority]
