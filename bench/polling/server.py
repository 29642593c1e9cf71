"""The server of the model: one core, and the line of what it has not come to."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from bench.polling.agenda import Items, Times


class Server:
    """Takes what comes in order, each for as long as its kind costs.

    An answer leaves at max(arrival, end of the one before) + cost (Lindley 1952). Where an item stands for ``each``
    alike ones, which are answered one after the other, what becomes of it is what becomes of the first of them.

    A loop sees to its own timers in each turn, however many requests wait to be read. So where the line is longer than
    ``turn_s``, kinds from ``own`` on wait for the next call of ``add`` and not for the line.
    """

    def __init__(self, costs: Times, own: int, each: int, since: float, turn_s: float) -> None:
        # CPU seconds by kind.
        self._costs = costs
        self._own = own
        self._turn_s = turn_s
        self._cheapest = float(costs[costs > 0].min())
        self._others = 1 - 1 / each
        self._since = since
        self._line: deque[tuple[Times, Items, Items]] = deque()
        # What is next to be put at the head of the line.
        self._next: tuple[Times, Items, Items] | None = None
        # When it is done with what it came to.
        self._free = 0.0
        # Seconds that it worked: after ``since``, and by the second in which it was done.
        self.busy_s = 0.0
        self.by_second: dict[int, float] = {}

    def add(self, times: Times, kinds: Items, numbers: Items) -> None:
        """Put what comes at the end of the line."""
        behind = self._line and len(times) and self._line[0][0][0] < times[0] - self._turn_s
        if self._next is not None:
            self._line.appendleft(self._next)
            self._next = None
        if behind:
            own = kinds >= self._own
            self._next = times[own], kinds[own], numbers[own]
            times, kinds, numbers = times[~own], kinds[~own], numbers[~own]
        if len(times):
            self._line.append((times, kinds, numbers))

    def work(self, end: float) -> tuple[Times, Times, Items, Items]:
        """Do what can be begun before ``end``; return when each came and was done, the kinds, and the numbers."""
        times, kinds, numbers = self._first(max(int((end - self._free) / self._cheapest) + 1, 0))
        if not len(times):
            return times, times, kinds, numbers
        each = self._costs[kinds]
        spent = np.cumsum(each)
        done = spent + np.maximum.accumulate(np.maximum(times, self._free) - spent + each)
        taken = int(np.searchsorted(done - each, end))
        if taken < len(times):
            self._line.appendleft((times[taken:], kinds[taken:], numbers[taken:]))
            times, done, each = times[:taken], done[:taken], each[:taken]
            kinds, numbers = kinds[:taken], numbers[:taken]
        if taken:
            self._free = float(done[-1])
            self._count(done, each)
        return times, done - each * self._others, kinds, numbers

    def drop(self) -> tuple[Times, Items, Items]:
        """Return what it has not come to, and never will."""
        dropped = [*self._line, self._next] if self._next else list(self._line)
        self._line.clear()
        self._next = None
        return self._joined(dropped)

    def _first(self, most: int) -> tuple[Times, Items, Items]:
        """Take up to ``most`` from the head of the line."""
        first: list[tuple[Times, Items, Items]] = []
        while self._line and most:
            part = self._line.popleft()
            if len(part[0]) > most:
                self._line.appendleft((part[0][most:], part[1][most:], part[2][most:]))
                part = part[0][:most], part[1][:most], part[2][:most]
            first.append(part)
            most -= len(part[0])
        return self._joined(first)

    @staticmethod
    def _joined(parts: list[tuple[Times, Items, Items]]) -> tuple[Times, Items, Items]:
        if len(parts) == 1:
            return parts[0]
        nothing: NDArray[np.int64] = np.empty(0, np.int64)
        times, kinds, numbers = zip(*parts, strict=True) if parts else ([np.empty(0)], [nothing], [nothing])
        return np.concatenate(times), np.concatenate(kinds), np.concatenate(numbers)

    def _count(self, done: Times, each: Times) -> None:
        self.busy_s += float(each[done >= self._since].sum())
        first = int(done[0])
        for second, work in enumerate(np.bincount(done.astype(np.int64) - first, each).tolist(), first):
            if work:
                self.by_second[second] = self.by_second.get(second, 0.0) + work
