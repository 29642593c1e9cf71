"""One timer for everything that has to happen later.

Time is cut into ticks of TICK_S. A tick has a list of the things that happen in it, and only ticks
with such things have one. So adding is an append, and turning looks at each tick once. Nothing
happens early. Things happen at most a tick late, and later only if the loop itself is late, which
is recorded.
"""

from __future__ import annotations

from typing import Protocol

TICK_S = 0.005


class Due(Protocol):
    """Something that waits for its time."""

    def due(self) -> None:
        """Its time has come."""


class Wheel:
    """Things to happen, by time, of time.monotonic in seconds."""

    __slots__ = ("_next", "_ticks")

    def __init__(self, now: float) -> None:
        # The earliest tick that has not been turned.
        self._next = int(now / TICK_S)
        self._ticks: dict[int, list[Due]] = {}

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._ticks.values()))

    def add(self, item: Due, when: float) -> None:
        """Have ``item.due`` called at ``when`` or up to a tick later, a past time in the next tick."""
        tick = int(when / TICK_S) + 1
        if tick < self._next:
            tick = self._next
        waiting = self._ticks.get(tick)
        if waiting is None:
            self._ticks[tick] = [item]
        else:
            waiting.append(item)

    def turn(self, now: float) -> float:
        """Call everything due by ``now``. Return the seconds that the first was late, 0.0 if none."""
        tick, last = self._next, int(now / TICK_S)
        self._next = last + 1
        late = 0.0
        while tick <= last:
            waiting = self._ticks.pop(tick, None)
            if waiting is not None:
                late = late or now - tick * TICK_S
                for item in waiting:
                    item.due()
            tick += 1
        return late
