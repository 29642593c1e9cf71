"""Sequence numbers by the time at which something is to be done about them: a heap.

An entry that is taken out before its time stays in the heap until it is due or until such entries outnumber the
others; so taking one out is cheap, and memory stays within twice what is scheduled.
"""

from __future__ import annotations

import heapq
from math import inf

# Entries that may be out of use before the heap is made anew, however few are in use.
SLACK = 64


class Schedule:
    """Holds each sequence number at most once. Times are of time.monotonic, in seconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        # By sequence number: when each is to be taken.
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
        """Have ``sequence`` taken at ``when``; raises ValueError where that is no time (NaN would undo the heap)."""
        if not -inf < when < inf:
            raise ValueError(f"{when!r} is no time at which to do anything about job {sequence}")
        self.when[sequence] = when
        heapq.heappush(self._heap, (when, sequence))

    def remove(self, sequence: int) -> bool:
        """Take ``sequence`` out; False where it is not here."""
        if self.when.pop(sequence, None) is None:
            return False
        if len(self._heap) > 2 * len(self.when) + SLACK:
            self._heap = [(when, sequence) for sequence, when in self.when.items()]
            heapq.heapify(self._heap)
        return True

    @property
    def next(self) -> float:
        """When the next one is to be taken; infinity where there is none."""
        while self._heap and self.when.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def take(self, now: float, most: float = inf) -> list[int]:
        """Take out and return all whose time has come, ``most`` of them at most, the earliest first."""
        taken: list[int] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < most:
            when, sequence = heapq.heappop(self._heap)
            if self.when.get(sequence) == when:
                del self.when[sequence]
                taken.append(sequence)
        return taken
