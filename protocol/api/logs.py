"""Reading the log of a job: ``/jobs/{id}/log``, whole or by ranges, also while it grows.

Places are those of the text as the job has written it, whatever is left out of it. So a client that
asks for the bytes after the last that it got misses nothing without being told: Content-Range says
where the bytes of the answer begin.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from headway.core.job import State
from headway.core.job_log import JobLog
from headway.core.status import Status
from headway.protocol.api.awaited import later, once_known
from headway.protocol.api.headers import NAMES
from headway.protocol.api.jobs import ISOLATED, asked_for, find, patience
from headway.protocol.api.service import Service
from headway.protocol.http.problems import document
from headway.protocol.http.request import Request
from headway.protocol.http.responses import PROBLEM, STATUS_LINES, Answer, Awaited, complete, complete_shared

TEXT = b"text/plain; charset=utf-8"
# One range of bytes (RFC 9110, 14.1.2). Any other is passed over.
_range = re.compile(rb"bytes[ \t]*=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII | re.IGNORECASE).fullmatch
END = 1 << 62


class ByteRange(NamedTuple):
    """From ``first`` up to and including ``last``, or the last ``suffix`` bytes."""

    first: int = 0
    last: int = END
    suffix: int | None = None

    def piece(self, log: JobLog) -> tuple[int, bytes]:
        """Return the bytes that are kept of it and lie side by side, and the place of the first."""
        if self.suffix is not None:
            return log.piece(max(log.total - self.suffix, 0), log.total)
        return log.piece(self.first, self.last + 1)


def log(service: Service, request: Request, name: bytes) -> Answer | Awaited:
    """GET, HEAD /jobs/{id}/log: the text. With ``Prefer: wait`` a range beyond the end waits for more."""
    wanted = asked_range(request)

    def told(status: Status, fields: bytes) -> Answer | Awaited:
        if status.state == State.EXPIRED:
            return asked_for(service, request, status, service.heads.job(status) + fields)
        return once_known(
            service.engine.log(status), lambda log: _told(service, request, wanted, status, (log, fields))
        )

    return find(service, name, told)


def asked_range(request: Request) -> ByteRange | None:
    """Return the range that a request asks for, None for all.

    HEAD has no ranges (RFC 9110, 14.2).
    """
    value = request.headers.get(b"range")
    if value is None or request.method == b"HEAD" or b"if-range" in request.headers:
        return None
    found = _range(value)
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return ByteRange(suffix=int(found[2]))
    asked = ByteRange(int(found[1]), int(found[2]) if found[2] else END)
    return asked if asked.first <= asked.last else None


def _told(
    service: Service, request: Request, wanted: ByteRange | None, status: Status, found: tuple[JobLog, bytes]
) -> Answer | Awaited:
    log, fields = found
    if wanted is None:
        head = STATUS_LINES[200] + _head(service, status, log) + fields
        return complete_shared(head, TEXT, log.text(), request.method == b"HEAD")
    place, text = wanted.piece(log)
    seconds = patience(service, request)
    if text or seconds is None:
        return _part(service, status, log, (place, text), fields)
    fields += b"Preference-Applied: wait=%d\r\n" % seconds
    if status.state >= State.SUCCEEDED or wanted.first < log.total:
        return _part(service, status, log, (place, text), fields)

    def grown(now: Status) -> Answer | Awaited:
        return once_known(service.engine.log(now), lambda log: _part(service, now, log, wanted.piece(log), fields))

    return later(service.engine.wait_log(status, max(log.total, wanted.first), seconds), grown)


def _part(service: Service, status: Status, log: JobLog, piece: tuple[int, bytes], fields: bytes) -> Answer:
    """Return the answer with some bytes, or without any."""
    place, text = piece
    head = _head(service, status, log) + fields
    if text:
        where = b"Content-Range: bytes %d-%d/%d\r\n" % (place, place + len(text) - 1, log.total)
        return complete_shared(STATUS_LINES[206] + head + where, TEXT, text, bodiless=False)
    detail = f"the job has written {log.total} bytes so far"
    if place < log.total:
        detail = f"these bytes were left out: ask for those from {log.tail_begin} on"
    elif status.state >= State.SUCCEEDED:
        detail = f"the job has finished, and has written {log.total} bytes"
    body = document(416, "range", "No such bytes", detail)
    where = b"Content-Range: bytes */%d\r\n" % log.total
    return complete(STATUS_LINES[416] + head + where, PROBLEM, body, bodiless=False)


def _head(service: Service, status: Status, log: JobLog) -> bytes:
    state = NAMES[status.state].encode()
    return b"Job-State: %b\r\nLog-Length: %d\r\nAccept-Ranges: bytes\r\n%b%b" % (
        state,
        log.total,
        service.clock.fields,
        ISOLATED,
    )
