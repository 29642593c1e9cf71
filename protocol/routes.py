"""Method and path to function; the functions call the engine and nothing else.

Places kept for what comes: ``/batches``, ``/openapi.json`` and ``/`` (the dashboard).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal
from urllib.parse import parse_qsl

import msgspec
import orjson
from headway.core import ids
from headway.core.errors import InvalidError, MalformedError
from headway.core.fields import faults
from headway.core.job import State, Status, Submission
from headway.protocol import metrics
from headway.protocol.documents import ended_document, job_members, status_document
from headway.protocol.problems import Refusal, document
from headway.protocol.request import Request
from headway.protocol.responses import JSON, NAMES, PROBLEM, STATUS_LINES, Held, complete
from headway.protocol.service import Service
from msgspec import Meta

Answer = Callable[[Service, Request, bytes], bytes | Held]

_submission = msgspec.json.Decoder(Submission)


class Route:
    """A path with a function for each method; ``{id}`` in the path is what the function gets as ``job_id``."""

    def __init__(self, path: str, **answers: Answer) -> None:
        self.path = path
        self.answers = {method.encode(): answer for method, answer in answers.items()}
        if b"GET" in self.answers:
            self.answers[b"HEAD"] = self.answers[b"GET"]
        self.allow = b"Allow: %b\r\n" % b", ".join(sorted(self.answers))
        # The names under which requests are counted.
        self.names = {method: f"{method.decode()} {path}" for method in self.answers}


def find(target: bytes) -> tuple[Route, bytes]:
    """Return the route of a request target and the id in it; raises Refusal where there is none."""
    path = target.partition(b"?")[0] if b"?" in target else target
    route = FIXED.get(path)
    if route is not None:
        return route, b""
    if path.startswith(b"/jobs/"):
        job_id, slash, part = path[6:].partition(b"/")
        if not slash:
            return JOB, job_id
        if part in PARTS:
            return PARTS[part], job_id
    raise Refusal("not-found", "there is no such route; docs/protocol.md lists them")


def answer_for(route: Route, method: bytes) -> Answer:
    """Return the function for ``method``; raises Refusal where the route does not have it."""
    answer = route.answers.get(method)
    if answer is None:
        raise Refusal("method", f"{route.path} has {route.allow[7:-2].decode()}", fields=route.allow)
    return answer


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
    status = service.engine.submit(_decoded(request.body))
    return _accepted(service, request, status)


def retry(service: Service, request: Request, job_id: bytes) -> bytes | Held:
    """POST /jobs/{id}/retry: take a job that failed once more, under a new id."""
    status = service.engine.peek(job_id)
    if status is None:
        raise _never_issued()
    if status.state == State.EXPIRED:
        return _with_document(service, status, service.heads.job(status))
    return _accepted(service, request, service.engine.retry(status), b'Link: </jobs/%b>; rel="prev"\r\n' % job_id)


def _accepted(service: Service, request: Request, status: Status, fields: bytes = b"") -> bytes | Held:
    job_id = ids.write(status.sequence, status.tag)
    seconds = _wait(service, request)
    if seconds is None:
        return _created(service, request, status, fields)
    fields += b"Preference-Applied: wait=%d\r\n" % seconds

    def then() -> bytes:
        now = service.engine.peek(job_id) or status
        if now.state < State.SUCCEEDED:
            return _created(service, request, now, fields)
        head = service.heads.job(now) + b"Content-Location: /jobs/%b\r\n" % job_id + fields
        return _with_document(service, now, head)

    return Held(status, seconds, then)


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


def _wait(service: Service, request: Request) -> int | None:
    """Return how many seconds the client would wait for the end of the job; None where it would not."""
    value = request.preference(b"wait") if b"prefer" in request.headers else None
    if value is None or not (value.isdigit() and len(value) < 20):
        return None
    return min(int(value), service.config.http.wait_most) or None


def _decoded(body: bytes) -> Submission:
    try:
        if not body.isascii():
            # The payload is kept as it is, so that nobody else looks whether it is text.
            body.decode()
        return _submission.decode(body)
    except (msgspec.ValidationError, OverflowError) as error:
        # None but the first: a member that is wrong and then given again.
        raise InvalidError(_faults(body) or [_fault(error)]) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedError(str(error)) from None


def _fault(error: Exception) -> tuple[str, str]:
    text, _, place = str(error).partition(" - at `$.")
    return place.rstrip("`"), text


def _faults(body: bytes) -> list[tuple[str, str]]:
    try:
        members = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedError(str(error)) from None
    if not isinstance(members, dict):
        return [("", f"expected an object, got {type(members).__name__}")]
    found = list(faults(Submission, members))
    if "task" not in members:
        found.append(("task", "is required"))
    return found


def job(service: Service, request: Request, job_id: bytes) -> bytes | Held:
    """GET, HEAD /jobs/{id}: the state of a job; with ``Prefer: wait`` when it is over."""
    status = service.engine.peek(job_id)
    if status is None:
        raise _never_issued()
    seconds = _wait(service, request)
    if seconds is None:
        return _told(service, request, status)
    fields = b"Preference-Applied: wait=%d\r\n" % seconds
    return _when_over(status, seconds, lambda: _told(service, request, service.engine.peek(job_id) or status, fields))


def _when_over(status: Status, seconds: int, then: Callable[[], bytes]) -> bytes | Held:
    return then() if status.state >= State.SUCCEEDED else Held(status, seconds, then)


def _told(service: Service, request: Request, status: Status, fields: bytes = b"") -> bytes:
    head = service.heads.job(status) + fields
    return head + b"\r\n" if request.method == b"HEAD" else _with_document(service, status, head)


def _with_document(service: Service, status: Status, head: bytes, bodiless: bool = False) -> bytes:
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
        raise _never_issued()
    seconds = _wait(service, request)
    if seconds is None:
        return _result(service, request, job_id, status)
    fields = b"Preference-Applied: wait=%d\r\n" % seconds
    return _when_over(
        status, seconds, lambda: _result(service, request, job_id, service.engine.peek(job_id) or status, fields)
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
        raise _never_issued()
    if status.state in (State.CANCELLED, State.EXPIRED):
        return _with_document(service, status, service.heads.job(status))
    running = status.state == State.RUNNING
    service.engine.cancel(status)
    name = b"succeeded" if status.state == State.SUCCEEDED else b"failed" if status.ended else b"cancelled"
    fields = b"Job-State: %b\r\n%b" % (name, service.clock.fields)
    if running:
        return STATUS_LINES[202] + fields + b"Retry-After: 1\r\nContent-Length: 0\r\n\r\n"
    return STATUS_LINES[204] + fields + b"\r\n"


def _never_issued() -> Refusal:
    return Refusal("not-found", "no job with this id was ever issued here")


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
    body = orjson.dumps(metrics.summary(service), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return complete(STATUS_LINES[200] + service.clock.fields, JSON, body, request.method == b"HEAD")


def exposition(service: Service, request: Request, _: bytes) -> bytes:
    """GET /metrics: the counts and histograms, Prometheus text."""
    head = STATUS_LINES[200] + service.clock.fields
    return complete(head, metrics.MEDIA_TYPE, metrics.exposition(service), request.method == b"HEAD")


JOB = Route("/jobs/{id}", GET=job, DELETE=delete)
PARTS = {b"result": Route("/jobs/{id}/result", GET=result), b"retry": Route("/jobs/{id}/retry", POST=retry)}
FIXED = {
    route.path.encode(): route
    for route in (
        Route("/jobs", GET=listing, POST=submit),
        Route("/healthz", GET=healthz),
        Route("/readyz", GET=readyz),
        Route("/stats", GET=stats),
        Route("/metrics", GET=exposition),
    )
}
ROUTES = (JOB, *PARTS.values(), *FIXED.values())
