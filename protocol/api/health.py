"""Answers about the server, not about a job: whether it is up, whether it is ready, its counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson
from headway.core.counted import Counted
from headway.core.stats import Counts
from headway.core.status import TaskStatus
from headway.protocol.api import load
from headway.protocol.api.awaited import once_known
from headway.protocol.api.made import once_made
from headway.protocol.api.service import Service
from headway.protocol.api.stats import summary
from headway.protocol.http.request import Request
from headway.protocol.http.responses import JSON, STATUS_LINES, Answer, Awaited, bodiless, complete

if TYPE_CHECKING:
    from prometheus_client.core import Metric


def healthz(service: Service, request: Request, _: bytes) -> bytes:
    """GET /healthz: 200 while the loop turns."""
    return _plain(service, request, 200, b"ok\n")


def readyz(service: Service, request: Request, _: bytes) -> bytes:
    """GET /readyz: 200 and the promise to new jobs while they are wanted here, else 503."""
    reason = service.engine.not_ready
    if reason is None:
        return _plain(service, request, 200, b"ready\n", service.heads.durability)
    return _plain(service, request, 503, b"%b\n" % reason.encode())


def _plain(service: Service, request: Request, code: int, body: bytes, fields: bytes = b"") -> bytes:
    retry = b"Retry-After: 1\r\n" if code == 503 else b""
    head = STATUS_LINES[code] + service.clock.fields + retry + fields
    return complete(head, b"text/plain; charset=utf-8", body, request.method == b"HEAD")


def stats(service: Service, request: Request, _: bytes) -> Answer | Awaited:
    """GET /stats: the counts, JSON. The load is in the header, too."""
    return once_known(
        service.engine.counts(),
        lambda counts: once_known(service.all_counted(), lambda all_of: _stats(service, request, counts, all_of)),
    )


def _stats(service: Service, request: Request, counts: Counts, all_of: Counted) -> bytes:
    head = STATUS_LINES[200] + service.clock.fields + load.fields_of(counts.load)
    if request.method == b"HEAD":
        return bodiless(head, JSON)
    body = orjson.dumps(summary(counts, all_of), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return complete(head, JSON, body, bodiless=False)


def exposition(service: Service, request: Request, _: bytes) -> Answer | Awaited:
    """GET /metrics: the counts and histograms, Prometheus text."""
    head_only = request.method == b"HEAD"

    def counted(counts: Counts) -> Answer | Awaited:
        pool = counts.processes
        workers = None if pool is None else pool.pids
        return once_made(lambda: _of_process(workers, service.supervisor), described)

    def described(found: Sequence[Metric]) -> Answer | Awaited:
        return once_known(service.engine.tasks(), lambda tasks: told(tasks, found))

    def told(tasks: Sequence[TaskStatus], found: Sequence[Metric]) -> Answer | Awaited:
        # Anew: the tasks were read later.
        return once_known(service.engine.counts(), lambda counts: known(counts, tasks, found))

    def known(counts: Counts, tasks: Sequence[TaskStatus], found: Sequence[Metric]) -> Answer | Awaited:
        return once_known(
            service.all_counted(), lambda all_of: _exposed(service, (counts, all_of), tasks, found, head_only=head_only)
        )

    return once_known(service.engine.counts(), counted)


def _of_process(workers: Sequence[int] | None, supervisor: int) -> Sequence[Metric]:
    # 14 ms with prometheus_client, which brings an HTTP server of its own, and email. No start needs it.
    from headway.protocol.api import processes

    return processes.read(workers, supervisor)


def _exposed(
    service: Service,
    counts: tuple[Counts, Counted],
    tasks: Sequence[TaskStatus],
    found: Sequence[Metric],
    *,
    head_only: bool,
) -> bytes:
    from headway.protocol.api import metrics

    head = STATUS_LINES[200] + service.clock.fields
    if head_only:
        return bodiless(head, metrics.MEDIA_TYPE)
    body = metrics.exposition(*counts, tasks, found)
    return complete(head, metrics.MEDIA_TYPE, body, bodiless=False)
