"""Answers as bytes: status lines and fixed headers are ready at import, the rest is one format.

``head`` in this file means the status line and header lines without the empty line that ends them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol

from headway.core.job import Reason, State, Status
from headway.protocol.clock import Clock, http_date

STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
} | {
    # Names of RFC 9110 that Python 3.11 does not have yet.
    413: b"HTTP/1.1 413 Content Too Large\r\n",
    414: b"HTTP/1.1 414 URI Too Long\r\n",
    422: b"HTTP/1.1 422 Unprocessable Content\r\n",
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = b"application/json"
PROBLEM = b"application/problem+json"

# The code that tells a client what to do, by state; see docs/protocol.md.
CODES = {
    State.SCHEDULED: 202,
    State.QUEUED: 202,
    State.RUNNING: 202,
    State.RETRYING: 202,
    State.SUCCEEDED: 200,
    State.FAILED: 424,
    State.CANCELLED: 410,
    State.EXPIRED: 410,
}
NAMES = [state.name.lower() for state in State]
REASONS = [reason.name.lower() for reason in Reason]


class Heads:
    """The heads of answers about jobs."""

    def __init__(self, clock: Clock, kept_seconds: float, failed_status: int) -> None:
        self._clock = clock
        self._kept_seconds = kept_seconds
        self.codes = [CODES.get(state, 404) for state in State]
        self.codes[State.FAILED] = failed_status
        # Status line and Job-State, by state.
        self._openings = [
            STATUS_LINES[code] + b"Job-State: %b\r\n" % name.encode()
            for code, name in zip(self.codes, NAMES, strict=True)
        ]
        # What follows it, by state.
        writers = {
            State.SCHEDULED: self._waiting,
            State.QUEUED: self._waiting,
            State.RUNNING: self._running,
            State.RETRYING: self._retrying,
            State.SUCCEEDED: self._succeeded,
            State.FAILED: self._failed,
        }
        self._fields = [writers.get(state, self._gone) for state in State]
        self._created = STATUS_LINES[202] + b"Location: /jobs/%b\r\nJob-State: %b\r\n"

    def job(self, status: Status) -> bytes:
        """Return the head that tells the state of a job."""
        state = status.state
        return self._openings[state] + self._fields[state](status)

    def accepted(self, status: Status, job_id: bytes) -> bytes:
        """Return the head that tells that a job was taken."""
        return self._created % (job_id, NAMES[status.state].encode()) + self._fields[status.state](status)

    def _waiting(self, status: Status) -> bytes:
        milliseconds = status.retry_after_ms
        return b"%bRetry-After: %d\r\nRetry-After-Ms: %d\r\nJob-Position: %d\r\n" % (
            self._clock.fields,
            (milliseconds + 999) // 1000,
            milliseconds,
            status.position,
        )

    def _retrying(self, status: Status) -> bytes:
        return b"%bJob-Attempt: %d\r\n" % (self._waiting(status), status.attempt)

    def _running(self, status: Status) -> bytes:
        milliseconds = status.retry_after_ms
        fields = b"%bRetry-After: %d\r\nRetry-After-Ms: %d\r\nJob-Attempt: %d\r\n" % (
            self._clock.fields,
            (milliseconds + 999) // 1000,
            milliseconds,
            status.attempt,
        )
        return fields if status.progress is None else b"%bJob-Progress: %d\r\n" % (fields, status.progress)

    def _succeeded(self, status: Status) -> bytes:
        clock, started, ended = self._clock, status.started, status.ended
        return b"%bExpires: %b\r\nServer-Timing: queue;dur=%.1f, run;dur=%.1f\r\n" % (
            clock.fields,
            http_date(int(ended + clock.offset + self._kept_seconds)),
            (started - status.submitted) * 1000,
            (ended - started) * 1000,
        )

    def _failed(self, status: Status) -> bytes:
        return b"%bExpires: %b\r\nJob-Reason: %b\r\nJob-Attempt: %d\r\n" % (
            self._clock.fields,
            http_date(int(status.ended + self._clock.offset + self._kept_seconds)),
            REASONS[status.reason].encode(),
            status.attempt,
        )

    def _gone(self, _: Status) -> bytes:
        return self._clock.fields


class Hold(Protocol):
    """What holds an answer back."""

    def cancel(self) -> None:
        """Never wake: the client has gone."""

    def hurry(self) -> None:
        """Wake now, if that can be: the client sends no more, and may have gone."""


class Held:
    """An answer that cannot be given yet: ``begin`` is given what to call once ``then`` can make it, or hold on."""

    __slots__ = ("begin", "then")

    def __init__(self, begin: Callable[[Callable[[], None]], Hold], then: Callable[[], bytes | Held]) -> None:
        self.begin = begin
        self.then = then


class Awaited:
    """Holds an answer until something was read from the disk."""

    __slots__ = ("_future", "_wake")

    def __init__(self, future: asyncio.Future[Any], wake: Callable[[], None]) -> None:
        self._future = future
        self._wake = wake
        future.add_done_callback(self._done)

    def _done(self, _: asyncio.Future[Any]) -> None:
        self._wake()

    def cancel(self) -> None:
        """Read no further."""
        self._future.remove_done_callback(self._done)
        self._future.cancel()

    def hurry(self) -> None:
        """Go on: it is read in a moment."""


def complete(head: bytes, media_type: bytes, body: bytes, bodiless: bool) -> bytes:
    """Return ``head`` with ``body``; with its length alone where the answer has no body, as on HEAD."""
    fields = b"%bContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (head, media_type, len(body))
    return fields if bodiless else fields + body


def with_connection(answer: bytes, close: bool) -> bytes:
    """Put a Connection line after the status line."""
    line = b"\r\nConnection: close\r\n" if close else b"\r\nConnection: keep-alive\r\n"
    return answer.replace(b"\r\n", line, 1)
