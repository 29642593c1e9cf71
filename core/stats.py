"""Counters and histograms, plain numbers that the loop adds to and a scrape reads."""

from __future__ import annotations

from bisect import bisect_left

# Upper bounds in seconds, the last bucket being open; as Prometheus' client defaults, reaching further both ways.
SECONDS_BOUNDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)


class Histogram:
    """How many values fell under each bound, and their sum."""

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(SECONDS_BOUNDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one value."""
        self.buckets[bisect_left(SECONDS_BOUNDS, seconds)] += 1
        self.sum += seconds

    @property
    def count(self) -> int:
        """How many values were added."""
        return sum(self.buckets)


class Stats:
    """What the engine counts; jobs by state are the board's own ``count``."""

    def __init__(self) -> None:
        # From ready (or submitted) to the start of an attempt; from its start to its end.
        self.wait = Histogram()
        self.run = Histogram()
        self.retries = 0
