"""The history of the last hours, as ``GET /history`` shows it: counts of equal spans of time."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Annotated

import msgspec
import orjson
from headway.core.history import MINUTE_S, TASKS_MOST, Minute, quantile
from headway.protocol.api import queries
from headway.protocol.api.awaited import once_known
from headway.protocol.api.service import Service
from headway.protocol.http.clock import iso
from headway.protocol.http.request import Request
from headway.protocol.http.responses import JSON, STATUS_LINES, Answer, Awaited, complete
from msgspec import Meta

# The most spans of an answer: as many as a chart has room for.
SPANS_MOST = 180
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class HistoryQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of ``GET /history``."""

    hours: Annotated[float, Meta(ge=0.1, le=24)] = 3.0


def history(service: Service, request: Request, _: bytes) -> Answer | Awaited:
    """GET /history: what was done in the last hours."""
    minutes = ceil(queries.read(request.target, HistoryQuery).hours * 60)
    head_only = request.method == b"HEAD"

    def told(found: Sequence[Minute]) -> bytes:
        body = orjson.dumps(members(found, minutes))
        head = STATUS_LINES[200] + service.clock.fields
        return complete(head, JSON, body, head_only)

    return once_known(service.engine.history(minutes), told)


def members(found: Sequence[Minute], minutes: int) -> dict[str, object]:
    """Return the members of the answer for so many ``minutes``. ``found`` has the present one at its end."""
    width = ceil(minutes / SPANS_MOST)
    # Spans begin at multiples of their width, so that a minute does not move from one to another.
    last = found[-1].number // width
    first = last - ceil(minutes / width) + 1
    by_span: dict[int, list[Minute]] = {}
    for minute in found:
        by_span.setdefault(minute.number // width, []).append(minute)
    spans = [by_span.get(span, []) for span in range(first, last + 1)]
    return {
        "seconds": width * MINUTE_S,
        "spans": [_span(span * width * MINUTE_S, of_span) for span, of_span in enumerate(spans, first)],
        "tasks": _tasks(spans),
    }


def _span(begin: int, minutes: Sequence[Minute]) -> dict[str, object]:
    if not minutes:
        # The server did not run, or began later.
        return {"begin": iso(begin)}
    last = minutes[-1]
    return {
        "begin": iso(begin),
        "succeeded": sum(minute.succeeded for minute in minutes),
        "failed": sum(minute.failed for minute in minutes),
        "cancelled": sum(minute.cancelled for minute in minutes),
        "retries": sum(minute.retries for minute in minutes),
        "waiting": last.waiting,
        "running": last.running,
        "wait": quantiles(_sum([minute.wait for minute in minutes])),
        "run": quantiles(_sum([minute.run for minute in minutes])),
    }


def _sum(found: Sequence[tuple[int, ...]]) -> list[int]:
    return [sum(column) for column in zip(*filter(None, found), strict=True)]


def quantiles(buckets: Sequence[int]) -> dict[str, float | None]:
    """Return the quantiles of values by the buckets of their histogram, in seconds, None without values."""
    seconds = {name: quantile(buckets, part) for name, part in QUANTILES.items()}
    return {name: None if value is None else round(value, 6) for name, value in seconds.items()}


def _tasks(spans: Sequence[Sequence[Minute]]) -> dict[str, dict[str, list[int]]]:
    """Return, by task, the jobs that ended and those that failed, span by span."""
    names = {name for minutes in spans for minute in minutes for name in minute.tasks}
    columns = {name: {"ended": [0] * len(spans), "failed": [0] * len(spans)} for name in sorted(names)[:TASKS_MOST]}
    for at, minutes in enumerate(spans):
        for minute in minutes:
            for name, (ended, failed) in minute.tasks.items():
                if name in columns:
                    columns[name]["ended"][at] += ended
                    columns[name]["failed"][at] += failed
    return columns
