"""Counters and histograms, plain numbers that the loop adds to and a scrape reads."""

from __future__ import annotations

from bisect import bisect_left

import msgspec

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


class WorkerCounts(msgspec.Struct):
    """Places for attempts."""

    count: int
    idle: int
    # Attempts that ignored their cancellation, and whose place was given to another.
    replacements: int
    # Threads whose attempt is over and which have not returned.
    lost_threads: int


class ProcessCounts(msgspec.Struct):
    """Worker processes: those that serve, and how many ended for which reason."""

    up: int
    crashed: int
    killed: int
    recycled: int


class JournalCounts(msgspec.Struct):
    """The journal."""

    commits: int
    # Changes that are not committed yet.
    pending: int
    # Jobs that retention has deleted.
    expired: int
    # Of the file and its log on disk.
    size_bytes: int
    full: bool
    commit_seconds: Histogram


class Counts(msgspec.Struct):
    """What an engine counts, at one moment. Times in seconds."""

    # By State; of the terminal ones, jobs that ever ended so.
    jobs: list[int]
    # Jobs that have not finished.
    active: int
    waiting: int
    queue_size: int
    payload_bytes: int
    oldest_queued_s: float
    retries: int
    # From ready to the start of an attempt; from its start to its end.
    wait: Histogram
    run: Histogram
    run_mean_s: float
    results_kept: int
    results_bytes: int
    results_max_bytes: int
    # Results given up to stay within the budget.
    results_evicted: int
    rows: int
    row_bytes: int
    # Of rows and rings, once all were used.
    memory_bytes: int
    workers: WorkerCounts
    # None where no task runs in a process.
    processes: ProcessCounts | None
    loop_lag: Histogram
    loop_stalls: int
    # None without a journal.
    journal: JournalCounts | None
    waiting_clients: int
    draining: bool
