"""Answers as bytes: status lines and fixed headers are ready at import, the rest is one format.

``head`` in this file means the status line and header lines without the empty line that ends them.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from headway.core.job import Reason, State, Status
from headway.protocol.clock import Clock

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
        self._created = STATUS_LINES[202] + b"Location: /jobs/%b\r\nJob-State: %b\r\n"

    def job(self, status: Status) -> bytes:
        """Return the head that tells the state of a job."""
        return self._openings[status.state] + self._fields(status)

    def accepted(self, status: Status, job_id: bytes) -> bytes:
        """Return the head that tells that a job was taken."""
        return self._created % (job_id, NAMES[status.state].encode()) + self._fields(status)

    def _fields(self, status: Status) -> bytes:
        state, clock = status.state, self._clock
        if state <= State.RETRYING:
            milliseconds = status.retry_after_ms
            hint = (clock.fields, (milliseconds + 999) // 1000, milliseconds)
            if state <= State.QUEUED:
                return b"%bRetry-After: %d\r\nRetry-After-Ms: %d\r\nJob-Position: %d\r\n" % (*hint, status.position)
            fields = b"%bRetry-After: %d\r\nRetry-After-Ms: %d\r\nJob-Attempt: %d\r\n" % (*hint, status.attempt)
            if state == State.RETRYING:
                return b"%bJob-Position: %d\r\n" % (fields, status.position)
            return fields if status.progress is None else b"%bJob-Progress: %d\r\n" % (fields, status.progress)
        if state == State.SUCCEEDED:
            return b"%bExpires: %b\r\nServer-Timing: queue;dur=%.1f, run;dur=%.1f\r\n" % (
                clock.fields,
                clock.http_date(status.ended + self._kept_seconds),
                (status.started - status.submitted) * 1000,
                (status.ended - status.started) * 1000,
            )
        if state == State.FAILED:
            return b"%bExpires: %b\r\nJob-Reason: %b\r\nJob-Attempt: %d\r\n" % (
                clock.fields,
                clock.http_date(status.ended + self._kept_seconds),
                REASONS[status.reason].encode(),
                status.attempt,
            )
        return clock.fields


class Held:
    """An answer that waits for a job: ``then`` makes it when the job is over, or after ``seconds``."""

    __slots__ = ("seconds", "status", "then")

    def __init__(self, status: Status, seconds: int, then: Callable[[], bytes]) -> None:
        self.status = status
        self.seconds = seconds
        self.then = then


def complete(head: bytes, media_type: bytes, body: bytes, bodiless: bool) -> bytes:
    """Return ``head`` with ``body``; with its length alone where the answer has no body, as on HEAD."""
    fields = b"%bContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (head, media_type, len(body))
    return fields if bodiless else fields + body


def with_connection(answer: bytes, close: bool) -> bytes:
    """Put a Connection line after the status line."""
    line = b"\r\nConnection: close\r\n" if close else b"\r\nConnection: keep-alive\r\n"
    return answer.replace(b"\r\n", line, 1)
