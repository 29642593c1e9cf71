"""Run times as they are learnt: those of a task, and the mean of a line or of all lines.

Of each task RUNS run times are kept, in ascending order. A new one takes the place of one drawn at
random, so they are an exponentially weighted sample, and one slow job is one entry in it. Of each
line, and of all together, the mean is kept. In it a run counts for at most CLIP times the longest
kept one of its task: one slow job does little, a second one counts. The first jobs to end are the
short ones, so at first a run weighs RECENT times as much as in a plain mean.
"""

from __future__ import annotations

import random
from bisect import bisect_right, insort
from collections.abc import Sequence
from itertools import accumulate

# Run times kept of each task.
RUNS = 256
# Of runs of one task that end within this time, one is kept.
KEEP_EVERY_S = 0.001
# Runs after which the aim is worth computing again.
AIM_EVERY = 64
# The least weight of the newest run in the mean over all tasks, which so forgets all but 1/e in
# 1,000 runs.
WEIGHT = 1 / 1000
RECENT = 3
# Runs after which the newest has the least weight.
MANY = RECENT / WEIGHT
CLIP = 2.0
PRICE = 0.745
# Aims that cost hardly more than the best are as good as it, and the middle of them moves less from
# sample to sample.
HARDLY = 1.05
NEXT = 0.6
# Added to the wait for each poll that found nothing new, as a part of the time so far.
LONGER = 0.25
# One poll asks for all jobs of a batch, so a second one costs less than for a job alone: the first
# is aimed earlier.
ALL = 0.7


class Runs:
    """The run times of one task, in seconds."""

    __slots__ = ("_until_aim", "aim", "kept", "kept_at")

    def __init__(self) -> None:
        # A sample, ascending.
        self.kept: list[float] = []
        # The run time at which a job that has not begun is best asked for. 0.0: none has ended.
        self.aim = 0.0
        self._until_aim = 0
        # When a run was last kept, of time.monotonic.
        self.kept_at = 0.0

    def begin(self, runs: Sequence[float]) -> None:
        """Begin with the last of ``runs``, aimed by all of them."""
        self.kept = sorted(runs[-RUNS:])
        self.aim = best_aim(sorted(runs))
        self._until_aim = AIM_EVERY

    def add(self, seconds: float, now: float) -> None:
        """Learn from one attempt that ended. If many end at once, some are enough."""
        kept = self.kept
        if len(kept) >= RUNS:
            if now - self.kept_at < KEEP_EVERY_S:
                return
            del kept[int(random.random() * RUNS)]  # noqa: S311
        self.kept_at = now
        insort(kept, seconds)
        self._until_aim -= 1
        if self._until_aim < 0 or len(kept) < RUNS:
            self._until_aim = AIM_EVERY
            self.aim = best_aim(kept)

    def aim_for(self, count: int) -> float:
        """Return the run time by which ``count`` such jobs are all finished.

        That is ALL times as likely as that one is finished at ``aim``.
        """
        kept = self.kept
        if not kept:
            return 0.0
        part = (ALL * bisect_right(kept, self.aim) / len(kept)) ** (1 / count)
        return kept[min(int(part * len(kept)), len(kept) - 1)]

    def rest(self, elapsed: float) -> float:
        """Return the seconds until NEXT of the jobs that have run for ``elapsed`` are finished.

        0.0 if no longer run is known.
        """
        longer = bisect_right(self.kept, elapsed)
        left = len(self.kept) - longer
        return self.kept[longer + int(NEXT * left)] - elapsed if left else 0.0


def mean_rest(runs: list[float], elapsed: float) -> float:
    """Return the mean rest of jobs that have run for ``elapsed``, by known ``runs``, ascending."""
    longer = runs[bisect_right(runs, elapsed) :]
    return sum(longer) / len(longer) - elapsed if longer else elapsed * LONGER


def best_aim(runs: list[float], price_of_a_poll: float = PRICE) -> float:
    """Return which of ``runs``, ascending, is the best time to ask whether a job is finished.

    The cost of asking at a time is the delay of the jobs that finished before, and the price, in
    mean run times, of another poll for each of those that are unfinished. Of the times that cost at
    most HARDLY times the least, the middle one is taken.
    """
    count, price = len(runs), price_of_a_poll * sum(runs) / len(runs)
    costs = [
        seconds * over - before + price * (count - over)
        for over, (seconds, before) in enumerate(zip(runs, accumulate(runs), strict=True), 1)
    ]
    least = min(costs)
    first = last = costs.index(least)
    while first and costs[first - 1] <= HARDLY * least:
        first -= 1
    while last + 1 < count and costs[last + 1] <= HARDLY * least:
        last += 1
    return runs[(first + last) // 2]


class Flow:
    """How fast the jobs of a line end, or of all lines. Times in seconds."""

    __slots__ = ("ended", "mean", "moved")

    def __init__(self) -> None:
        # Mean run time. 0.0: none has ended.
        self.mean = 0.0
        self.ended = 0
        # When a job last began or ended, of time.monotonic.
        self.moved = 0.0

    def add(self, seconds: float, now: float) -> None:
        """Learn from one attempt that ended."""
        self.moved = now
        self.ended += 1
        self.mean += (seconds - self.mean) * (WEIGHT if self.ended > MANY else min(RECENT / self.ended, 1.0))

    def begin(self, runs: Sequence[float], now: float) -> None:
        """Begin with known ``runs``, each as likely to be among them as any other."""
        self.moved = now
        self.mean = sum(runs) / len(runs)
        self.ended = int(min(RECENT * len(runs), MANY))
