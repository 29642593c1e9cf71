"""The load of the server or of a task, as header fields and as members of a document."""

from __future__ import annotations

from headway.core.load import Load


def members_of(load: Load) -> dict[str, int]:
    """Return the members of a document. Each is a plain number, which an autoscaler can read."""
    return {
        "queue_length": load.queue_length,
        "queue_oldest_ms": int(load.oldest_s * 1000),
        "queue_wait_ms": int(load.wait_s * 1000),
        "workers_busy": load.workers_busy,
        "workers_wanted": load.workers_wanted,
    }


# The fields in the order of the members.
FIELDS = b"Queue-Length: %d\r\nQueue-Oldest-Ms: %d\r\nQueue-Wait-Ms: %d\r\nWorkers-Busy: %d\r\nWorkers-Wanted: %d\r\n"


def fields_of(load: Load) -> bytes:
    """Return the header lines."""
    return FIELDS % tuple(members_of(load).values())
