"""The growth of a measure, with its confidence interval.

Samples of a process follow each other closely, so they count for less than as many independent ones. They are put
together in blocks, and a block counts as one value, its least: a leak raises the floor, while clients that come and
go, and neighbours on the same cores, only add to it. The line is fitted to the blocks by least squares. Lives of the
server, from deploy to deploy, have lines of one slope at heights of their own.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

HOUR_S = 3600.0
# Blocks of all lives together, and the samples of the smallest.
BLOCKS, SAMPLES_LEAST = 24, 3
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope per hour, and the interval that has the true one with CONFIDENCE."""

    slope: float
    least: float
    most: float


Point = tuple[int, float, float]


def trend(points: Sequence[Point]) -> Trend | None:
    """Return the slope of points (life, seconds, value); None where there are too few for an interval."""
    blocks = _blocks(points)
    lives = {life for life, _, _ in blocks}
    freedom = len(blocks) - len(lives) - 1
    if freedom < 3:
        return None
    centred: list[tuple[float, float]] = []
    for life in lives:
        own = [(at / HOUR_S, value) for one, at, value in blocks if one == life]
        mean_at, mean = (statistics.fmean(column) for column in zip(*own, strict=True))
        centred += [(at - mean_at, value - mean) for at, value in own]
    spread = sum(at * at for at, _ in centred)
    slope = sum(at * value for at, value in centred) / spread
    error = math.sqrt(sum((value - slope * at) ** 2 for at, value in centred) / freedom / spread)
    width = _student(freedom) * error
    return Trend(slope, slope - width, slope + width)


def _blocks(points: Sequence[Point]) -> list[Point]:
    by_life: dict[int, list[Point]] = defaultdict(list)
    for point in points:
        by_life[point[0]].append(point)
    size = max(SAMPLES_LEAST, -(-len(points) // BLOCKS))
    found = []
    for life, own in by_life.items():
        for begin in range(0, len(own) - size + 1, size):
            block = own[begin : begin + size]
            found.append((life, statistics.fmean(one[1] for one in block), min(one[2] for one in block)))
    return found


def _student(freedom: int) -> float:
    """The quantile of Student's t for CONFIDENCE, by the expansion of Cornish and Fisher (within 1% from 3 on)."""
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    n = freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
