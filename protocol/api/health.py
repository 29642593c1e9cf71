"""Answers about the server, not about a job: whether it is up, whether it is ready, its counts."""

from __future__ import annotations

import orjson
from headway.protocol.api.service import Service
from headway.protocol.http.request import Request
from headway.protocol.http.responses import JSON, STATUS_LINES, bodiless, complete


def healthz(service: Service, request: Request, _: bytes) -> bytes:
    """GET /healthz: 200 while the loop turns."""
    return _plain(service, request, 200, b"ok\n")


def readyz(service: Service, request: Request, _: bytes) -> bytes:
    """GET /readyz: 200 while new jobs are wanted here, else 503."""
    reason = service.engine.not_ready
    if reason is None:
        return _plain(service, request, 200, b"ready\n")
    return _plain(service, request, 503, b"%b\n" % reason.encode())


def _plain(service: Service, request: Request, code: int, body: bytes) -> bytes:
    retry = b"Retry-After: 1\r\n" if code == 503 else b""
    head = STATUS_LINES[code] + service.clock.fields + retry
    return complete(head, b"text/plain; charset=utf-8", body, request.method == b"HEAD")


def stats(service: Service, request: Request, _: bytes) -> bytes:
    """GET /stats: the counts, JSON."""
    from headway.protocol.api import metrics  # 14 ms: see below

    head = STATUS_LINES[200] + service.clock.fields
    if request.method == b"HEAD":
        return bodiless(head, JSON)
    body = orjson.dumps(metrics.summary(service), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return complete(head, JSON, body, bodiless=False)


def exposition(service: Service, request: Request, _: bytes) -> bytes:
    """GET /metrics: the counts and histograms, Prometheus text."""
    # 14 ms with prometheus_client, which brings an HTTP server of its own, and email. The first scrape pays them.
    from headway.protocol.api import metrics

    head = STATUS_LINES[200] + service.clock.fields
    if request.method == b"HEAD":
        return bodiless(head, metrics.MEDIA_TYPE)
    return complete(head, metrics.MEDIA_TYPE, metrics.exposition(service), bodiless=False)
