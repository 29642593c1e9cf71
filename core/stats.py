"""Counters and histograms: plain numbers that the loop adds to and a scrape reads."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from operator import add

import msgspec
from headway.core.job import State
from headway.core.load import Load

# Upper bounds in seconds. The last bucket is open. As the defaults of Prometheus' client, but
# further at both ends.
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

    @classmethod
    def together(cls, histograms: Iterable[Histogram]) -> Histogram:
        """Return one histogram of the values of all."""
        found = cls()
        for histogram in histograms:
            found.buckets = list(map(add, found.buckets, histogram.buckets))
            found.sum += histogram.sum
        return found


class Stats:
    """The engine's own counts. The board counts jobs by state (``count``)."""

    def __init__(self, tasks: int) -> None:
        # By task: its jobs that have not finished, and those that have ended, by State.
        self.unfinished = [0] * tasks
        self.ended = [[0] * len(State) for _ in range(tasks)]
        # By task. ``wait``: from ready (or submitted) to the start of an attempt. ``run``: from its
        # start to its end.
        self.wait = [Histogram() for _ in range(tasks)]
        self.run = [Histogram() for _ in range(tasks)]
        self.retries = 0
        # When a job ended here last, of time.monotonic. 0: never.
        self.last_end = 0.0


class WorkerCounts(msgspec.Struct):
    """Places for attempts."""

    count: int
    idle: int
    # Attempts that ignored their cancellation and lost their place to another.
    replacements: int
    # Threads whose attempt has ended and whose function has not returned.
    lost_threads: int


class ProcessCounts(msgspec.Struct):
    """Worker processes: those that serve, the ids of all, and those that ended, by reason."""

    up: int
    pids: list[int]
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
    # Bytes of the file and its log on disk.
    size_bytes: int
    full: bool
    # Writers that were started after one had died.
    writer_restarts: int
    commit_seconds: Histogram


class StoreCounts(msgspec.Struct):
    """The store that nodes share, as this node sees it. Counts without a note are since the node began."""

    # Whether it answers.
    up: bool
    # Seconds since it last did a step of this node: took its results and gave it jobs.
    step_age_s: float
    reconnects: int
    # Requests that were sent together, and whose answers came together.
    round_trips: int
    # Statuses that were answered from memory, and those that the store was asked for.
    cache_hits: int
    cache_misses: int
    # Now: ends of jobs that the store does not have yet.
    outbox: int
    # Ends that came too late: the store had given the job to another node.
    fenced: int
    # Jobs of dead nodes that this node has put back into their lines.
    reclaimed: int
    # Now: nodes of the queue that are alive.
    nodes: int


class Counts(msgspec.Struct):
    """All counts of an engine at one moment. Times in seconds."""

    # Jobs by State. Of the terminal states: all jobs that ever ended so.
    jobs: list[int]
    # Jobs that have not finished.
    active: int
    load: Load
    waiting: int
    # Of these, jobs of held tasks.
    held: int
    queue_size: int
    payload_bytes: int
    retries: int
    run_mean_s: float
    results_kept: int
    results_bytes: int
    results_max_bytes: int
    # Results given up to stay within the budget.
    results_evicted: int
    rows: int
    row_bytes: int
    # Bytes of rows and rings, once all are used.
    memory_bytes: int
    workers: WorkerCounts
    # None where no task runs in a process.
    processes: ProcessCounts | None
    loop_lag: Histogram
    loop_stalls: int
    # None without a journal.
    journal: JournalCounts | None
    waiting_clients: int
    # Of events.
    readers: int
    draining: bool
    # None for an engine of one process.
    store: StoreCounts | None = None
    # When a job ended here last, of time.monotonic. 0: never.
    last_end: float = 0.0
