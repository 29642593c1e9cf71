"""Errors as problem documents (RFC 9457).

REFUSALS is the one table of the protocol's own refusals. Errors of the engine bring their own
status, reason and title.
"""

from __future__ import annotations

import math

import orjson
from headway.core.errors import (
    DrainingError,
    EngineAwayError,
    EngineFullError,
    HeadwayError,
    InvalidError,
    JournalFullError,
    OrdersFullError,
    PayloadsFullError,
    QueueFullError,
    RecoveringError,
    StreamsFullError,
    TaskClosedError,
)
from headway.protocol.http.clock import Clock
from headway.protocol.http.responses import PROBLEM, STATUS_LINES, complete

# reason: (status, title). The reason names the problem's type and its count in /metrics.
REFUSALS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "Not a valid HTTP request"),
    "token": (401, "A token is needed"),
    "host": (403, "Not a name of this server"),
    "origin": (403, "Not for pages of other sites"),
    "scope": (403, "The token does not allow this"),
    "not-found": (404, "No such job or route"),
    "method": (405, "Method not allowed here"),
    "request-timeout": (408, "The request took too long to arrive"),
    "length-required": (411, "Length required"),
    "precondition": (412, "A condition of the request does not hold"),
    "too-large": (413, "Content too large"),
    "target-too-long": (414, "Request line too long"),
    "media-type": (415, "Unsupported media type"),
    "expectation": (417, "Unknown expectation"),
    "batch-over-rate": (422, "More jobs than a client may ever submit at once"),
    "head-too-large": (431, "Header fields too large"),
    "connections-of-address": (429, "Too many connections of one address"),
    "rate": (429, "Too many requests"),
    "internal": (500, "Internal error"),
    "not-implemented": (501, "Not implemented"),
    "connections": (503, "Too many connections"),
    "half-sent": (503, "Too many incomplete requests"),
    "version": (505, "HTTP version not supported"),
}


# Names and units of quotas that may be full (draft-ietf-httpapi-ratelimit-headers).
QUOTAS = {
    QueueFullError: (b"queue", b"concurrent-requests"),
    PayloadsFullError: (b"queue-bytes", b"content-bytes"),
    OrdersFullError: (b"orders", b"concurrent-requests"),
}
# Errors that say when to come again.
WITH_RETRY_AFTER = (
    DrainingError,
    EngineAwayError,
    EngineFullError,
    JournalFullError,
    RecoveringError,
    StreamsFullError,
    TaskClosedError,
)
# Methods that this server has, whatever the route.
METHODS = b"Allow: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT\r\n"


class Refusal(Exception):
    """A refusal by the protocol. ``fields``: more header lines. ``close``: end the connection."""

    def __init__(self, reason: str, detail: str, *, fields: bytes = b"", close: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.status, self.title = REFUSALS[reason]
        self.fields = fields
        self.close = close


def document(status: int, reason: str, title: str, detail: str, /, **members: object) -> bytes:
    """Return a problem document, JSON."""
    return orjson.dumps(
        {
            "type": f"urn:headway:problem:{reason}",
            "title": title,
            "status": status,
            "detail": detail,
            **members,
        }
    )


def answer(error: Refusal | HeadwayError, clock: Clock, bodiless: bool) -> bytes:
    """Return the whole answer to a request refused with ``error``."""
    members: dict[str, object] = {}
    fields = clock.fields
    if isinstance(error, Refusal):
        fields += error.fields
    elif isinstance(error, InvalidError):
        members["errors"] = [{"field": field, "detail": fault} for field, fault in error.faults]
    elif isinstance(error, QueueFullError):
        fields += retry_after(error.retry_after_s)
        seconds = whole_seconds(_milliseconds(error.retry_after_s))
        name, unit = QUOTAS[type(error)]
        fields += b'RateLimit-Policy: "%b";q=%d;qu="%b"\r\n' % (name, error.size, unit)
        fields += b'RateLimit: "%b";r=%d;t=%d\r\n' % (name, error.room, seconds)
    elif isinstance(error, WITH_RETRY_AFTER):
        fields += retry_after(error.retry_after_s)
    body = document(error.status, error.reason, error.title, str(error), **members)
    return complete(STATUS_LINES[error.status] + fields, PROBLEM, body, bodiless)


def retry_after(seconds: float) -> bytes:
    """Return the header lines that ask a client to come back in ``seconds``."""
    return retry_after_lines(_milliseconds(seconds))


def retry_after_lines(milliseconds: int) -> bytes:
    """Return the same, for milliseconds. Heads of unfinished jobs have them in a format of their own."""
    return b"Retry-After: %d\r\nRetry-After-Ms: %d\r\n" % (whole_seconds(milliseconds), milliseconds)


def whole_seconds(milliseconds: int) -> int:
    """Return seconds, rounded up: a client that goes by them does not come early."""
    return (milliseconds + 999) // 1000


def _milliseconds(seconds: float) -> int:
    """Return milliseconds, rounded up, but one microsecond does not turn a second into two."""
    return math.ceil(seconds * 1000 - 0.001)


def closes(error: Refusal | HeadwayError) -> bool:
    """Whether the connection ends with the answer."""
    return error.close if isinstance(error, Refusal) else isinstance(error, DrainingError)
