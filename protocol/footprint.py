"""The most memory that the server takes, whatever its clients do: the sum of its settings."""

from __future__ import annotations

from headway.core.config import Config
from headway.core.stats import Counts
from headway.core.tasks.registry import REGISTRY
from headway.protocol.access.limits import CLIENT_BYTES, CLIENTS_MOST
from headway.protocol.process.lines import BYTES_MOST

# Bytes of each, besides those that are counted. A connection has its socket, its two known heads,
# the answers in its buffer before it counts as not reading, and itself.
CONNECTION_BYTES = 24 * 1024
# A job that has not finished, besides its payload: its entry, its limits, its uncommitted change.
JOB_BYTES = 1024
# A key of 200 characters with its digest.
KEY_BYTES = 512
# An event, with its id. Its tags are those of its job.
EVENT_BYTES = 320


def parts(config: Config, counts: Counts, *, serves: bool = True) -> dict[str, int]:
    """Return the most bytes that each part of the server takes, besides program and tasks. It may have no HTTP."""
    of_clients = _of_clients(config) if serves else {}
    if counts.store is not None:
        return _of_node(config) | of_clients
    jobs = config.queue.size + config.workers
    return {
        "board and rings": counts.memory_bytes,
        "results": config.results.max_bytes + config.results.max_result_bytes,
        "failed attempts": config.attempts.max_bytes,
        "logs": config.results.log_max_bytes,
        "payloads": config.queue.max_bytes,
        f"{jobs} jobs": jobs * JOB_BYTES,
        f"{config.idempotency.keys} keys": config.idempotency.keys * KEY_BYTES,
        **of_clients,
        "lines of the log": BYTES_MOST,
    }


def _of_node(config: Config) -> dict[str, int]:
    """Return the parts of a node whose jobs are in a store: those that run here, and those that it knows."""
    from headway.core.valkey.cache import MOST
    from headway.core.valkey.engine import KNOWN_BYTES
    from headway.core.valkey.outbox import BYTES_MOST as OUTBOX_BYTES

    running = config.workers * (JOB_BYTES + config.limits.body_bytes + config.results.max_result_bytes)
    return {
        f"{config.workers} running jobs": running,
        "ends that the store does not have": OUTBOX_BYTES + config.results.max_result_bytes,
        "lines of the log": BYTES_MOST,
        f"{MOST} known jobs": MOST * KNOWN_BYTES,
    }


def _of_clients(config: Config) -> dict[str, int]:
    # As many bytes of unanswered requests again may wait for their turn of the loop.
    longest = max([config.limits.body_bytes, *(task.body_bytes or 0 for task in REGISTRY.tasks)])
    counted = CLIENTS_MOST * (bool(config.rates.submits) + bool(config.rates.polls))
    return {
        f"{config.events.kept} events": config.events.kept * EVENT_BYTES,
        "unanswered requests": 2 * config.limits.unanswered_bytes + longest,
        "untaken answers": config.limits.untaken_bytes,
        f"{counted} counted clients": counted * CLIENT_BYTES,
        f"{config.limits.connections} connections": config.limits.connections * CONNECTION_BYTES,
    }
