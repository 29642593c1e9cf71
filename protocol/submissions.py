"""Submitting: ``POST /jobs`` and ``POST /jobs/{id}/retry``."""

from __future__ import annotations

from functools import partial

from headway.core import ids
from headway.core.job import State, Status
from headway.protocol import bodies
from headway.protocol.jobs import never_issued, patience, with_document
from headway.protocol.problems import Refusal
from headway.protocol.request import Request
from headway.protocol.responses import JSON, NAMES, Held
from headway.protocol.service import Service


def check_content(request: Request) -> None:
    """Raise Refusal where the content of a POST is not what the routes read."""
    media_type = request.headers.get(b"content-type", b"")
    if media_type != JSON and media_type.partition(b";")[0].strip().lower() != JSON:
        raise Refusal("media-type", "send Content-Type: application/json", fields=b"Accept: application/json\r\n")
    if b"content-encoding" in request.headers and request.headers[b"content-encoding"].lower() != b"identity":
        raise Refusal("media-type", "send the content as it is", fields=b"Accept-Encoding: identity\r\n")


def submit(service: Service, request: Request, _: bytes) -> bytes | Held:
    """POST /jobs: take a job; with ``Prefer: wait`` answer when it is over."""
    check_content(request)
    status = service.engine.submit(bodies.submission(request.body))
    return _accepted(service, request, status)


def retry(service: Service, request: Request, job_id: bytes) -> bytes | Held:
    """POST /jobs/{id}/retry: take a job that failed once more, under a new id."""
    status = service.engine.peek(job_id)
    if status is None:
        raise never_issued()
    if status.state == State.EXPIRED:
        return with_document(service, status, service.heads.job(status))
    return _accepted(service, request, service.engine.retry(status), b'Link: </jobs/%b>; rel="prev"\r\n' % job_id)


def _accepted(service: Service, request: Request, status: Status, fields: bytes = b"") -> bytes | Held:
    job_id = ids.write(status.sequence, status.tag)
    seconds = patience(service, request)
    if seconds is None:
        return _created(service, request, status, fields)
    fields += b"Preference-Applied: wait=%d\r\n" % seconds

    def then() -> bytes:
        now = service.engine.peek(job_id) or status
        if now.state < State.SUCCEEDED:
            return _created(service, request, now, fields)
        head = service.heads.job(now) + b"Content-Location: /jobs/%b\r\n" % job_id + fields
        return with_document(service, now, head)

    return Held(partial(service.engine.wait, status, seconds), then)


def _created(service: Service, request: Request, status: Status, fields: bytes) -> bytes:
    job_id = ids.write(status.sequence, status.tag)
    head = service.heads.accepted(status, job_id)
    if b"prefer" in request.headers and request.preference(b"return") == b"minimal":
        return head + fields + b"Preference-Applied: return=minimal\r\nContent-Length: 0\r\n\r\n"
    return _CREATED[status.state] % (head, fields, job_id)


def _created_format(state: str) -> bytes:
    """Format of the answer to a submission: its head, further fields, its id."""
    body = b'{"id":"%%b","state":"%b"}' % state.encode()
    length = len(body) - len(b"%b") + ids.LENGTH
    return b"%%b%%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (length, body)


_CREATED = [_created_format(name) for name in NAMES]
