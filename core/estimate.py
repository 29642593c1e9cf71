"""When to ask again: jobs ahead ÷ the measured rate of completion, plus the mean run time.

Run times are measured per task as exponentially weighted means. With all workers busy, jobs are completed at
workers ÷ the mean run time over all tasks, which is the rate used here. Before the first job has ended there is
nothing to go by and the answer is one second.

Answers are spread by a few per cent, by bits of the job's tag, so that clients who were told at the same moment do
not come back at the same moment.
"""

from __future__ import annotations

# The weight of the newest run: the mean forgets all but 1/e of what it knew in 20 runs.
WEIGHT = 0.05
FIRST_S = 1.0
SHORTEST_MS = 20
LONGEST_MS = 60_000
# Spread over [1, 1.25) in steps of 1/1024.
SPREAD_BITS = 8


class Estimate:
    """Mean run times, and the answers that follow from them. Times in seconds unless named otherwise."""

    def __init__(self, workers: int, tasks: int) -> None:
        self.workers = workers
        # Mean over all tasks, and per task by its index; 0.0: none has ended.
        self.mean = 0.0
        self.means = [0.0] * tasks

    def observe(self, task: int, seconds: float) -> None:
        """Learn from one attempt that ended."""
        self.mean += (seconds - self.mean) * WEIGHT if self.mean else seconds
        mean = self.means[task]
        self.means[task] += (seconds - mean) * WEIGHT if mean else seconds

    def for_queued(self, ahead: int, task: int, tag: int) -> int:
        """Return milliseconds until a job with ``ahead`` jobs before it is expected to be over."""
        if not self.mean:
            return _spread(FIRST_S, tag)
        return _spread((ahead + 1) * self.mean / self.workers + (self.means[task] or self.mean), tag)

    def for_running(self, elapsed: float, task: int, tag: int) -> int:
        """Return milliseconds until a job that has run for ``elapsed`` is expected to be over."""
        mean = self.means[task] or self.mean
        if not mean:
            return _spread(FIRST_S, tag)
        # One that has outrun the mean tells that runs differ: ask again after as long as a part of what it took.
        return _spread(mean - elapsed if elapsed < mean else elapsed / 4, tag)

    def for_delayed(self, until: float, task: int, tag: int) -> int:
        """Return milliseconds until a job that becomes ready in ``until`` is expected to be over."""
        return int(max(until, 0.0) * 1000) + _spread(self.means[task] or self.mean, tag)

    def for_places(self, count: int) -> float:
        """Return seconds until ``count`` more places in the queue are expected to be free."""
        return min(max(count * self.mean / self.workers, FIRST_S), LONGEST_MS / 1000)


def _spread(seconds: float, tag: int) -> int:
    spread = int(seconds * (1024 + (tag & (1 << SPREAD_BITS) - 1)) * (1000 / 1024))
    return SHORTEST_MS if spread < SHORTEST_MS else min(spread, LONGEST_MS)
