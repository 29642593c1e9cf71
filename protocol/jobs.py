"""Asking: ``/jobs/{id}``, its result, its end before its time, and the list of jobs in a state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal
from urllib.parse import parse_qsl

import msgspec
import orjson
from headway.core import ids
from headway.core.errors import InvalidError
from headway.core.fields import faults
from headway.core.job import State, Status
from headway.protocol.documents import ended_document, job_members, status_document
from headway.protocol.problems import Refusal, document
from headway.protocol.request import Request
from headway.protocol.responses import JSON, PROBLEM, STATUS_LINES, Held, complete
from headway.protocol.service import Service
from msgspec import Meta


def job(service: Service, request: Request, job_id: bytes) -> bytes | Held:
    """GET, HEAD /jobs/{id}: the state of a job; with ``Prefer: wait`` when it is over."""
    status = service.engine.peek(job_id)
    if status is None:
        raise never_issued()
    seconds = patience(service, request)
    if seconds is None:
        return _told(service, request, status)
    fields = b"Preference-Applied: wait=%d\r\n" % seconds
    return _when_over(
        service, status, seconds, lambda: _told(service, request, service.engine.peek(job_id) or status, fields)
    )


def patience(service: Service, request: Request) -> int | None:
    """Return how many seconds the client would wait for the end of the job; None where it would not."""
    value = request.preference(b"wait") if b"prefer" in request.headers else None
    if value is None or not (value.isdigit() and len(value) < 20):
        return None
    return min(int(value), service.config.http.wait_most) or None


def _when_over(service: Service, status: Status, seconds: int, then: Callable[[], bytes]) -> bytes | Held:
    if status.state >= State.SUCCEEDED:
        return then()
    return Held(partial(service.engine.wait, status, seconds), then)


def _told(service: Service, request: Request, status: Status, fields: bytes = b"") -> bytes:
    head = service.heads.job(status) + fields
    return head + b"\r\n" if request.method == b"HEAD" else with_document(service, status, head)


def with_document(service: Service, status: Status, head: bytes, bodiless: bool = False) -> bytes:
    code = service.heads.codes[status.state]
    error = _error(service, status) if status.state == State.FAILED else None
    if code >= 400:
        return complete(head, PROBLEM, ended_document(status, code, error), bodiless)
    return complete(head, JSON, status_document(status, service.clock, error), bodiless)


def _error(service: Service, status: Status) -> str | None:
    said = service.engine.result(status)
    return None if said is None else said.body.decode()


def listing(service: Service, request: Request, _: bytes) -> bytes:
    """GET /jobs?state=failed: the jobs in a state, newest first, some at a time."""
    query = _query(request.target)
    found, before = service.engine.list(State[query.state.upper()], query.after, query.limit)
    jobs = [job_members(status, service.clock) for status in found]
    fields, after = b"", None
    if before:
        after = f"/jobs?state={query.state}&limit={query.limit}&after={before}"
        fields = b'Link: <%b>; rel="next"\r\n' % after.encode()
    body = orjson.dumps({"jobs": jobs, "next": after})
    return complete(STATUS_LINES[200] + service.clock.fields + fields, JSON, body, request.method == b"HEAD")


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``GET /jobs`` may ask for; ``after`` is where the page before ended."""

    state: Literal["scheduled", "queued", "running", "retrying", "succeeded", "failed", "cancelled"]
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    after: Annotated[int, Meta(ge=0, le=ids.SEQUENCE_LIMIT)] = 0


def _query(target: bytes) -> Query:
    given = dict(parse_qsl(target.partition(b"?")[2].decode("latin-1"), keep_blank_values=True))
    members = {name: int(text) if text.isdecimal() and text.isascii() else text for name, text in given.items()}
    try:
        return msgspec.convert(members, Query)
    except (msgspec.ValidationError, OverflowError):
        raise InvalidError(list(faults(Query, members)) or [("state", "is required")]) from None


def result(service: Service, request: Request, job_id: bytes) -> bytes | Held:
    """GET, HEAD /jobs/{id}/result: what the job returned; until then, and if not, its state."""
    status = service.engine.peek(job_id)
    if status is None:
        raise never_issued()
    seconds = patience(service, request)
    if seconds is None:
        return _result(service, request, job_id, status)
    fields = b"Preference-Applied: wait=%d\r\n" % seconds
    return _when_over(
        service,
        status,
        seconds,
        lambda: _result(service, request, job_id, service.engine.peek(job_id) or status, fields),
    )


def _result(service: Service, request: Request, job_id: bytes, status: Status, applied: bytes = b"") -> bytes:
    bodiless = request.method == b"HEAD"
    if status.state != State.SUCCEEDED:
        return _told(service, request, status, applied)
    if not service.engine.has_result(status):
        body, media_type = b"null", JSON
    else:
        kept = service.engine.result(status)
        if kept is None:
            return _given_up(service, job_id, bodiless)
        body, media_type = kept.body, kept.media_type.encode()
    tag = b'"%b"' % job_id
    fields = b"Job-State: succeeded\r\n%bETag: %b\r\nCache-Control: private, immutable\r\n" % (
        service.clock.date + applied,
        tag,
    )
    if _matches(request.headers.get(b"if-none-match"), tag):
        return STATUS_LINES[304] + fields + b"\r\n"
    return complete(STATUS_LINES[200] + fields, media_type, body, bodiless)


def _given_up(service: Service, job_id: bytes, bodiless: bool) -> bytes:
    body = document(
        410,
        "result-gone",
        "The result is gone",
        "the job succeeded; its result was deleted, or given up to stay within results.max_bytes",
        id=job_id.decode(),
        state="succeeded",
    )
    head = STATUS_LINES[410] + b"Job-State: succeeded\r\n" + service.clock.fields
    return complete(head, PROBLEM, body, bodiless)


def _matches(if_none_match: bytes | None, tag: bytes) -> bool:
    """Whether the header names ``tag``, compared weakly (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    named = [item.strip().removeprefix(b"W/") for item in if_none_match.split(b",")]
    return tag in named or named == [b"*"]


def delete(service: Service, _: Request, job_id: bytes) -> bytes:
    """DELETE /jobs/{id}: cancel a job; forget the result of one that is over."""
    status = service.engine.peek(job_id)
    if status is None:
        raise never_issued()
    if status.state in (State.CANCELLED, State.EXPIRED):
        return with_document(service, status, service.heads.job(status))
    running = status.state == State.RUNNING
    service.engine.cancel(status)
    name = b"succeeded" if status.state == State.SUCCEEDED else b"failed" if status.ended else b"cancelled"
    fields = b"Job-State: %b\r\n%b" % (name, service.clock.fields)
    if running:
        return STATUS_LINES[202] + fields + b"Retry-After: 1\r\nContent-Length: 0\r\n\r\n"
    return STATUS_LINES[204] + fields + b"\r\n"


def never_issued() -> Refusal:
    return Refusal("not-found", "no job with this id was ever issued here")
