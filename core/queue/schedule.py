"""The schedule: sequence numbers by the time at which they are due, as a heap.

An entry that is taken out before its time stays in the heap until it is due or until such entries
outnumber the others. So taking one out is cheap, and memory stays within twice that of the
scheduled entries.
"""

from __future__ import annotations

import heapq
from math import inf

# Entries that may be out of use before the heap is rebuilt, however few are in use.
SLACK = 64


class Schedule:
    """Holds each sequence number at most once. Times are of time.monotonic, in seconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        # By sequence number: when each is due.
        self.when: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self.when)

    def __contains__(self, sequence: int) -> bool:
        return sequence in self.when

    @property
    def entries(self) -> int:
        """How many entries the heap has, those out of use included."""
        return len(self._heap)

    def add(self, sequence: int, when: float) -> None:
        """Add ``sequence``, due at ``when``.

        Raises ValueError if that is no time: NaN would undo the heap.
        """
        if not -inf < when < inf:
            raise ValueError(f"job {sequence} cannot be due at {when!r}: expected a finite time")
        self.when[sequence] = when
        heapq.heappush(self._heap, (when, sequence))

    def remove(self, sequence: int) -> bool:
        """Take ``sequence`` out. Return False if it is not here."""
        if self.when.pop(sequence, None) is None:
            return False
        if len(self._heap) > 2 * len(self.when) + SLACK:
            self._heap = [(when, sequence) for sequence, when in self.when.items()]
            heapq.heapify(self._heap)
        return True

    @property
    def next(self) -> float:
        """When the next entry is due, infinity if there is none."""
        while self._heap and self.when.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def take(self, now: float, most: float = inf) -> list[int]:
        """Take out and return all due entries, ``most`` of them at most, the earliest first."""
        taken: list[int] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < most:
            when, sequence = heapq.heappop(self._heap)
            if self.when.get(sequence) == when:
                del self.when[sequence]
                taken.append(sequence)
        return taken
