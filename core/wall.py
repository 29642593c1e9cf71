"""The time of day, as a constant that is added to time.monotonic.

Times of jobs are of time.monotonic, and answers show them by the time of day. Two readings of the
difference between these clocks differ by some microseconds, so now and then a time would change by
a millisecond, or by a whole second in a header. The difference itself changes only when the
machine's clock is set. So a process has one offset, and keeps it until the clock has been set.

A journal keeps the offset for the next process.
"""

from __future__ import annotations

import time

# Seconds by which a reading differs if the clock has been set.
SET_S = 0.01


class Wall:
    """The time of day minus time.monotonic, in seconds, as of the last ``read``."""

    __slots__ = ("offset",)

    def __init__(self) -> None:
        self.offset = 0.0
        self.read()

    def read(self) -> float:
        """Look whether the clock has been set, and return the offset."""
        begin = time.monotonic()
        now = time.time()
        took = time.monotonic() - begin
        offset = now - begin - took / 2
        # The process may have been interrupted in between.
        if abs(offset - self.offset) > SET_S + took:
            self.offset = offset
        return self.offset

    def keep(self, offset: float) -> None:
        """Go on with the offset of a process before, unless the clock has been set since."""
        self.offset = offset
        self.read()


# Of this process.
wall = Wall()
