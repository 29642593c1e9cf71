"""The most memory that the server takes, whatever its clients do: the sum of its settings."""

from __future__ import annotations

from headway.core.config import Config
from headway.core.open import gateway_bytes
from headway.core.stats import Counts
from headway.core.tasks.registry import REGISTRY
from headway.protocol.access.limits import CLIENT_BYTES, CLIENTS_MOST
from headway.protocol.process.lines import BYTES_MOST

# Bytes of each, besides those that are counted. A connection has its socket, its two known heads,
# the answers in its buffer before it counts as not reading, and itself.
CONNECTION_BYTES = 24 * 1024
# What TLS adds: its state, its keys, and the largest buffers that content leaves (make bench-tls).
TLS_BYTES = 640 * 1024
# A job that has not finished, besides its payload: its entry, its limits, its uncommitted change.
JOB_BYTES = 1024
# A key of 200 characters with its digest.
KEY_BYTES = 512
# An entry of the audit log, with a target, a short filter and the id of a job.
AUDIT_BYTES = 640
# Results that wait for a store that is away (core/nodes/outbox.py).
OUTBOX_BYTES = 64 * 1024 * 1024
# An event, with its id. Its tags are those of its job.
EVENT_BYTES = 320


def parts(config: Config, counts: Counts, *, serves: bool = True, gateways: int = 0) -> dict[str, int]:
    """Return the most bytes that each part of the server takes, besides program and tasks. It may have no HTTP.

    ``gateways`` divide among them what clients may take, and each has room for calls to keep.
    """
    # As many bytes of unanswered requests again may wait for their turn of the loop.
    jobs = config.queue.size + config.workers
    longest = max([config.limits.body_bytes, *(task.body_bytes or 0 for task in REGISTRY.tasks)])
    counted = CLIENTS_MOST * (bool(config.rates.submits) + bool(config.rates.polls))
    if counts.store is None:
        kept = {
            "board and rings": counts.memory_bytes,
            "results": config.results.max_bytes + config.results.max_result_bytes,
            "failed attempts": config.attempts.max_bytes,
            "logs": config.results.log_max_bytes,
            "payloads": config.queue.max_bytes,
            f"{jobs} jobs": jobs * JOB_BYTES,
            f"{config.idempotency.keys} keys": config.idempotency.keys * KEY_BYTES,
        }
        if config.journal.path is None:
            # A journal has them on disk.
            kept[f"{config.audit.kept} audit entries"] = config.audit.kept * AUDIT_BYTES
    else:
        # The store has all jobs. Those that run here are here too, with the results on their way.
        kept = {
            "statuses": counts.memory_bytes,
            f"{config.workers} jobs that run": config.workers * (longest + config.results.max_result_bytes),
            "results on their way": OUTBOX_BYTES,
        }
    connection = CONNECTION_BYTES + (0 if config.server.tls.certificate is None else TLS_BYTES)
    if not serves:
        return kept | {"lines of the log": BYTES_MOST}
    if gateways:
        kept[f"calls that {gateways} gateways keep"] = gateways * gateway_bytes()
    return kept | {
        f"{config.events.kept} events": config.events.kept * EVENT_BYTES,
        "unanswered requests": 2 * config.limits.unanswered_bytes + longest,
        "untaken answers": config.limits.untaken_bytes,
        f"{counted} counted clients": counted * CLIENT_BYTES,
        "lines of the log": BYTES_MOST,
        f"{config.limits.connections} connections": config.limits.connections * connection,
    }
