"""The load of a task, or of all tasks: how much waits, for how long, and the workers it asks for."""

from __future__ import annotations

import msgspec


class Load(msgspec.Struct, frozen=True):
    """The load at one moment. Times in seconds."""

    # Jobs that are ready and wait for a worker.
    queue_length: int
    # How long the oldest of them has been ready. 0.0: there is none.
    oldest_s: float
    # The estimated wait of a job that comes now and is taken after all that are ready.
    wait_s: float
    # Workers with an attempt.
    workers_busy: int
    # Those, and as many more as let all ready jobs begin within the target.
    workers_wanted: int
