"""A line of ready jobs: a ring for each priority, and the limits on how many may run at once.

Priority 9 is emptied before 8 is looked at. The queue makes sure that 0 is not forgotten. The
highest priority with a job is one ``bit_length`` of a mask. The memory of a ring is touched only
once it is used, so a line costs as much as its jobs.
"""

from __future__ import annotations

from headway.core.queue.ring import Ring

PRIORITIES = 10


class Limit:
    """How many jobs of one kind may run at once, and how many run."""

    __slots__ = ("most", "running")

    def __init__(self, most: int) -> None:
        self.most = most
        self.running = 0

    def __repr__(self) -> str:
        return f"<Limit {self.running} of {self.most}>"


class Line:
    """Ready jobs that stand under the same ``limits``, which may be shared with other lines."""

    def __init__(self, most: int, limits: tuple[Limit, ...] = ()) -> None:
        self.rings = [Ring(most) for _ in range(PRIORITIES)]
        self.limits = limits
        # The number of the tasks' usual line among the queue's: that of what is learnt of them.
        self.number = 0
        # Whether no worker looks here.
        self.is_aside = False
        # Bit p is set while ring p has an entry.
        self.ready = 0
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"<Line {len(self)} ready, {self.limits}>"

    @property
    def top(self) -> int:
        """The highest priority with a job that may run now, -1 if there is none."""
        for limit in self.limits:
            if limit.running >= limit.most:
                return -1
        return self.ready.bit_length() - 1

    @property
    def blocking(self) -> Limit | None:
        """The limit that the line is at, None if another of its jobs may begin."""
        for limit in self.limits:
            if limit.running >= limit.most:
                return limit
        return None

    def at(self, priority: int, ticket: int) -> int:
        """Return the job that has ``ticket``."""
        return self.rings[priority].at(ticket)

    def has(self, priority: int, ticket: int, sequence: int) -> bool:
        """Whether job ``sequence`` stands here with ``ticket``."""
        ring = self.rings[priority]
        return ring.head <= ticket < ring.tail and ring.at(ticket) == sequence

    def push(self, sequence: int, priority: int) -> int:
        """Put a job at the end and return its ticket. Raises IndexError as ``Ring.push`` does."""
        ticket = self.rings[priority].push(sequence)
        self.ready |= 1 << priority
        self.count += 1
        return ticket

    def pop(self) -> int:
        """Take the first job of the highest priority to run it. Return it, 0 if none may run."""
        for limit in self.limits:
            if limit.running >= limit.most:
                return 0
        return self.take(self.ready.bit_length() - 1) if self.ready else 0

    def take(self, priority: int) -> int:
        """Take and return the first job of ``priority``, which has one, to run it."""
        ring = self.rings[priority]
        sequence = ring.pop()
        self.count -= 1
        if ring.head == ring.tail:
            self.ready ^= 1 << priority
        for limit in self.limits:
            limit.running += 1
        return sequence

    def remove(self, priority: int, ticket: int) -> None:
        """Take out the job that has ``ticket``."""
        ring = self.rings[priority]
        ring.remove(ticket)
        self.count -= 1
        if ring.head == ring.tail:
            self.ready ^= 1 << priority

    def ahead(self, priority: int, ticket: int | None) -> int:
        """Return how many jobs stand before the one with ``ticket``, for None before a newcomer."""
        ring = self.rings[priority]
        ahead = len(ring) if ticket is None else ring.ahead(ticket)
        return ahead + self._above(priority) if self.ready >> priority + 1 else ahead

    def before(self, priority: int, sequence: int | None) -> int:
        """Return how many jobs are taken before job ``sequence`` of another line.

        None stands for a newcomer.
        """
        if not self.ready >> priority:
            return 0
        ring = self.rings[priority]
        before = len(ring) if sequence is None else ring.before(sequence)
        return before + self._above(priority)

    def first(self) -> tuple[int, int]:
        """Return the first submitted job that may run now, and its priority. (0, -1) for none."""
        if self.top < 0:
            return 0, -1
        ready = [priority for priority in range(PRIORITIES) if self.ready >> priority & 1]
        return min((self.rings[priority].first(), priority) for priority in ready)

    def _above(self, priority: int) -> int:
        return sum(len(ring) for ring in self.rings[priority + 1 :])
