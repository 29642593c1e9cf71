"""What waits: a ready ring for each priority, and a heap of what is delayed.

The bound ``size`` counts all that waits: queued, scheduled and retrying. A job that is to be tried again was
admitted before and is let in past the bound, so at most ``size + workers`` jobs stand here.

Priorities are strict: 9 is emptied before 8 is looked at. Finding the highest one that has a job is one
``bit_length`` of a mask. Heap entries of cancelled jobs stay until they are due or until they outnumber the
others, and are then dropped; so cancelling is cheap and memory stays within twice the bound.
"""

from __future__ import annotations

import heapq

from headway.core.board import Board
from headway.core.ring import Ring

PRIORITIES = 10


class Queue:
    """The line of jobs that wait, each a sequence number whose row is on ``board``."""

    def __init__(self, board: Board, size: int, workers: int) -> None:
        self.board = board
        self.size = size
        self.rings = [Ring(size + workers) for _ in range(PRIORITIES)]
        # Bit p is set while ring p has an entry.
        self._ready = 0
        # (due, sequence); the job is there for as long as its sequence is in ``_delayed``.
        self._heap: list[tuple[float, int]] = []
        self._delayed: set[int] = set()
        self._queued = 0

    def __len__(self) -> int:
        return self._queued + len(self._delayed)

    def __repr__(self) -> str:
        return f"<Queue {self._queued} ready, {len(self._delayed)} delayed, of {self.size}>"

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that the rings take once each slot was used."""
        return sum(ring.slots * 8 for ring in self.rings)

    @property
    def full(self) -> bool:
        """Whether a new job has to be refused."""
        return self._queued + len(self._delayed) >= self.size

    @property
    def next_due(self) -> float | None:
        """When the next delayed job is ready, of time.monotonic; None where there is none."""
        while self._heap and self._heap[0][1] not in self._delayed:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def push(self, sequence: int) -> None:
        """Put a job that is ready at the end of the line of its priority."""
        row = sequence % self.board.rows
        priority = self.board.priority[row]
        ring = self.rings[priority]
        if not ring.has_slot:
            for moved, ticket in ring.compact():
                self.board.place[moved % self.board.rows] = ticket
        self.board.place[row] = ring.push(sequence)
        self._ready |= 1 << priority
        self._queued += 1

    def delay(self, sequence: int, due: float) -> None:
        """Keep a job until ``due``, of time.monotonic."""
        self.board.due[sequence % self.board.rows] = due
        heapq.heappush(self._heap, (due, sequence))
        self._delayed.add(sequence)

    def take_due(self, now: float) -> list[int]:
        """Take out and return the delayed jobs that are ready at ``now``, the earliest first."""
        taken = []
        while self._heap and self._heap[0][0] <= now:
            sequence = heapq.heappop(self._heap)[1]
            if sequence in self._delayed:
                self._delayed.remove(sequence)
                taken.append(sequence)
        return taken

    def claim(self) -> int:
        """Take the job that is next and return its sequence number; 0 where none is ready."""
        if not self._ready:
            return 0
        priority = self._ready.bit_length() - 1
        ring = self.rings[priority]
        sequence = ring.pop()
        self._queued -= 1
        if not len(ring):
            self._ready ^= 1 << priority
        return sequence

    def remove(self, sequence: int) -> None:
        """Take out a job that waits."""
        if sequence in self._delayed:
            self._delayed.remove(sequence)
            if len(self._heap) > 2 * len(self._delayed) + 64:
                self._heap = [entry for entry in self._heap if entry[1] in self._delayed]
                heapq.heapify(self._heap)
            return
        row = sequence % self.board.rows
        priority = self.board.priority[row]
        ring = self.rings[priority]
        ring.remove(self.board.place[row])
        self._queued -= 1
        if not len(ring):
            self._ready ^= 1 << priority

    def ahead(self, sequence: int) -> int:
        """Return how many jobs that are ready stand before this one, which waits.

        For a delayed one: how many would stand before it if it were ready now.
        """
        row = sequence % self.board.rows
        priority = self.board.priority[row]
        ring = self.rings[priority]
        ahead = len(ring) if sequence in self._delayed else ring.ahead(self.board.place[row])
        if self._ready >> priority + 1:
            ahead += sum(len(ring) for ring in self.rings[priority + 1 :])
        return ahead

    def oldest(self) -> int:
        """Return the job that has been ready for longest; 0 where none is."""
        firsts = [ring.first() for ring in self.rings if len(ring)]
        return min(firsts, key=lambda sequence: self.board.submitted[sequence % self.board.rows], default=0)
