"""By how much this machine, as it is now, is slower than the one on which bounds of CPU time were measured."""

from __future__ import annotations

import time
from statistics import median

# CPU seconds that ``_work`` takes there.
MEASURED_S = 0.0024


def slowness() -> float:
    """Return 1.0 on that machine or a faster one, else how many times as long the same work takes."""
    return max(1.0, median(_work() for _ in range(5)) / MEASURED_S)


def _work() -> float:
    begin = time.thread_time()
    table: dict[int, list[int]] = {}
    for number in range(50_000):
        table.setdefault(number & 1023, []).append(number)
    assert len(table) == 1024
    return time.thread_time() - begin
