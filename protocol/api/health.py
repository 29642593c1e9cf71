"""Answers about the server, not about a job: whether it is up, whether it is ready, its counts."""

from __future__ import annotations

import importlib
import sys

import orjson
from headway.protocol.api.made import once_made
from headway.protocol.api.service import Service
from headway.protocol.api.stats import summary
from headway.protocol.http.request import Request
from headway.protocol.http.responses import JSON, STATUS_LINES, Answer, Held, bodiless, complete

# The module that only a scrape needs.
METRICS = "headway.protocol.api.metrics"


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


def stats(service: Service, request: Request, _: bytes) -> bytes:
    """GET /stats: the counts, JSON."""
    head = STATUS_LINES[200] + service.clock.fields
    if request.method == b"HEAD":
        return bodiless(head, JSON)
    body = orjson.dumps(summary(service), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return complete(head, JSON, body, bodiless=False)


def exposition(service: Service, request: Request, _: bytes) -> Answer | Held:
    """GET /metrics: the counts and histograms, Prometheus text."""
    if METRICS not in sys.modules:
        kept = request.copy()
        return once_made(lambda: importlib.import_module(METRICS), lambda _: _exposed(service, kept))
    return _exposed(service, request)


def _exposed(service: Service, request: Request) -> bytes:
    # 14 ms with prometheus_client, which brings an HTTP server of its own, and email. No start needs it.
    from headway.protocol.api import metrics

    head = STATUS_LINES[200] + service.clock.fields
    if request.method == b"HEAD":
        return bodiless(head, metrics.MEDIA_TYPE)
    return complete(head, metrics.MEDIA_TYPE, metrics.exposition(service), bodiless=False)
