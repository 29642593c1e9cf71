"""``POST /tasks/{name}/jobs``: a job whose payload is the content of the request, as it is.

JSON is decoded for the task, as a submission's payload is. Content of another media type comes as
``headway.Body``. A task annotated with Body gets JSON as Body, too. The options of the job are
members of the query.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from headway.core.body import is_media_type
from headway.core.job import ContentSubmission, Submission
from headway.core.key import Key
from headway.protocol.api import bodies, queries
from headway.protocol.api.service import Service
from headway.protocol.api.submissions import check_coding, check_task, is_json, key_of, taken, traced, under_key
from headway.protocol.http.problems import Refusal
from headway.protocol.http.request import ContentLimit, Request
from headway.protocol.http.responses import JSON, OCTETS, Answer, Awaited

JOBS = b"/jobs"


# The members of the query: those of a submission, but for its task and payload.
ContentOptions = msgspec.defstruct(
    "ContentOptions",
    [
        (field.name, field.type, field.default)
        for field in msgspec.structs.fields(Submission)
        if field.name not in {"task", "payload"}
    ],
    frozen=True,
    forbid_unknown_fields=True,
)


def submit(service: Service, request: Request, name: bytes) -> Answer | Awaited:
    """Take a job. With ``Prefer: wait`` answer when it has finished."""
    if b"idempotency-key" not in request.headers:
        return taken(service, request, service.engine.submit(_submission(service, request, name)))
    # The same content with other options, or of another type, is another submission.
    what = request.target + b"\0" + request.headers.get(b"content-type", b"")
    digest = blake2b(what, digest_size=blake2b.PERSON_SIZE).digest()
    key = Key.of(key_of(request), request.body, digest)
    return under_key(service, request, key, lambda: _submission(service, request, name))


class Wanted(msgspec.Struct):
    """The task of a request, and how it gets the content."""

    task: str
    media_type: bytes
    as_json: bool


def check(service: Service, request: Request, name: bytes) -> Wanted:
    """Return what the head of a request asks for. Raises Refusal for no task, or content that it does not take."""
    task = task_of(name)
    accepts = service.engine.accepts(task)
    if accepts is None:
        raise Refusal("not-found", f"no module declares a task {task!r}: GET /tasks lists them")
    check_coding(request)
    # Without content the payload is null, unless the task takes content alone.
    usual = JSON if request.headers.get(b"content-length") == b"0" else OCTETS
    media_type = request.headers.get(b"content-type", usual)
    as_json = accepts.json and is_json(media_type)
    if not (as_json or accepts.content):
        detail = f"the task {task!r} takes JSON: send Content-Type: application/json"
        raise Refusal("media-type", detail, fields=b"Accept: application/json\r\n")
    if not is_media_type(media_type.decode("latin-1")):
        raise Refusal("media-type", "Content-Type is no media type such as image/jpeg", fields=b"Accept: */*\r\n")
    return Wanted(task, media_type, as_json)


def _submission(service: Service, request: Request, name: bytes) -> Submission:
    check_task(request, task_of(name))
    wanted, options = check(service, request, name), _options(request.target)
    if not wanted.as_json:
        content = ContentSubmission(wanted.task, request.body, media_type=wanted.media_type.decode(), **options)
        return traced(request, content)
    payload = msgspec.Raw(bodies.payload(request.body) if request.body else b"null")
    return traced(request, Submission(wanted.task, payload, **options))


def content_limit(service: Service, request: Request) -> ContentLimit | None:
    """Return the limit of the task in a request target, None if it has none of its own for this content.

    Raises RecoveringError.
    """
    path = request.target.partition(b"?")[0]
    before = service.tasks
    if not (path.startswith(before) and path.endswith(JOBS)):
        return None
    task = task_of(path[len(before) : -len(JOBS)])
    accepts = service.engine.accepts(task)
    if accepts is None or accepts.body_bytes is None:
        return None
    if accepts.json and is_json(request.headers.get(b"content-type", OCTETS)):
        # The loop scans JSON, 3.4 ms for each megabyte.
        return None
    config = service.config
    return min(
        ContentLimit(accepts.body_bytes, f"body_bytes of the task {task!r}"),
        # Content above these would be told to come again, for ever. Heads take some of the former.
        ContentLimit(config.limits.unanswered_bytes * 7 // 8, "limits.unanswered_bytes, seven eighths of it"),
        ContentLimit(config.queue.max_bytes, "queue.max_bytes"),
    )


def task_of(name: bytes) -> str:
    """Return the name of a task from its segment of a path."""
    return unquote_to_bytes(name).decode(errors="replace")


def _options(target: bytes) -> dict[str, Any]:
    options = queries.read(target, ContentOptions, lists={"tags"})
    return msgspec.structs.asdict(options)
