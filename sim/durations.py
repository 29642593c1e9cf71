"""Durations by size: buckets grow with the value, so memory is bounded and percentiles are close.

As in HdrHistogram, a value (whole microseconds) falls into one of 64 to 128 equal buckets of its
power of two. So a percentile is within 1/64 of its value. Recording costs one addition. 2,112
buckets reach 76 hours.
"""

from __future__ import annotations

# Values below 2 << BITS have a bucket each. Each further power of two has 1 << BITS.
BITS = 6
# 2**38 µs are 76 hours. Anything longer counts as that.
LONGEST_BITS = 38
BUCKETS = (LONGEST_BITS - BITS + 1) << BITS


class Durations:
    """Counts of durations, recorded in seconds."""

    __slots__ = ("_counts", "count", "longest_s", "total_s")

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._counts[:] = bytes(BUCKETS)
        self.count = 0
        self.total_s = 0.0
        self.longest_s = 0.0

    def record(self, seconds: float) -> None:
        """Count one duration. A negative one counts as 0."""
        value = int(seconds * 1e6)
        if value > 127:
            shift = value.bit_length() - 7
            value = (shift << 6) + (value >> shift) if shift < LONGEST_BITS - BITS else BUCKETS - 1
        elif value < 0:
            value = 0
        self._counts[value] += 1
        self.count += 1
        self.total_s += seconds
        if seconds > self.longest_s:
            self.longest_s = seconds

    def add(self, other: Durations) -> None:
        """Count everything that ``other`` has counted."""
        if other.count:
            self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
            self.count += other.count
            self.total_s += other.total_s
            self.longest_s = max(self.longest_s, other.longest_s)

    @property
    def mean_s(self) -> float:
        """The arithmetic mean in seconds, 0 if nothing was counted."""
        return self.total_s / self.count if self.count else 0.0

    def percentile_s(self, percent: float) -> float:
        """Return the seconds that ``percent`` of the durations do not exceed, rounded up to the end of a bucket."""
        wanted = max(1, -int(-self.count * percent // 100))
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return min(_end_us(bucket) / 1e6, self.longest_s)
        return 0.0

    def in_ms(self) -> dict[str, float]:
        """Return count, and mean, p50, p95, p99 and max in milliseconds."""
        percentiles = {f"p{percent}": self.percentile_s(percent) for percent in (50, 95, 99)}
        times = {"mean": self.mean_s, **percentiles, "max": self.longest_s}
        return {"count": self.count, **{name: round(seconds * 1000, 3) for name, seconds in times.items()}}


def _end_us(bucket: int) -> int:
    """The first microsecond past ``bucket``."""
    if bucket < 128:
        return bucket + 1
    shift = (bucket >> 6) - 1
    return ((bucket & 63) + 65) << shift
