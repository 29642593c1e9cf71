"""The declared tasks, ``GET /tasks`` and ``GET /tasks/{name}``, and their switches: ``PATCH /tasks/{name}``."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from headway.core.audit import Act
from headway.core.status import TaskStatus
from headway.protocol.access.scopes import knows
from headway.protocol.api import bodies, load
from headway.protocol.api.awaited import once_known
from headway.protocol.api.contents import task_of
from headway.protocol.api.history import quantiles
from headway.protocol.api.service import Service
from headway.protocol.api.submissions import check_content
from headway.protocol.http.clock import iso
from headway.protocol.http.problems import Refusal
from headway.protocol.http.request import Request
from headway.protocol.http.responses import JSON, STATUS_LINES, Answer, Awaited, bodiless, complete

# A route for people, too.
FORM = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


def listing(service: Service, request: Request, _: bytes) -> Answer | Awaited:
    """GET /tasks: the tasks that the client may know, with what each takes and how its jobs have ended."""
    known = knows(request.caller)

    def told(tasks: Sequence[TaskStatus]) -> bytes:
        some = [_members_of(service, task) for task in tasks if known is None or task.name in known]
        return _answer(service, request, {"tasks": some})

    return once_known(service.engine.tasks(), told)


def task(service: Service, request: Request, name: bytes) -> Answer | Awaited:
    """GET /tasks/{name}: one of them. Its load is in the header, too."""
    wanted, known = task_of(name), knows(request.caller)
    if known is not None and wanted not in known:
        # Also if there is no such task.
        raise Refusal("scope", f"the token {request.caller.name!r} may read {', '.join(sorted(known))}, not {wanted!r}")
    found = service.engine.task(wanted)
    return once_known(found, lambda task: _one(service, request, task))


def switch(service: Service, request: Request, name: bytes, act: Act) -> Answer | Awaited:
    """PATCH /tasks/{name}: hold or run its jobs, close or open it."""
    check_content(request)
    changed = service.engine.switch(task_of(name), bodies.switches(request.body), act)
    return once_known(changed, lambda task: _one(service, request, task))


def _one(service: Service, request: Request, found: TaskStatus | None) -> bytes:
    if found is None:
        raise Refusal("not-found", "no module declares a task of this name: GET /tasks lists them")
    return _answer(service, request, _members_of(service, found), load.fields_of(found.load))


def _answer(service: Service, request: Request, members: dict[str, object], fields: bytes = b"") -> bytes:
    head = STATUS_LINES[200] + service.clock.fields + fields
    if request.method == b"HEAD":
        return bodiless(head, JSON)
    return complete(head, JSON, orjson.dumps(members, option=FORM), bodiless=False)


def _members_of(service: Service, task: TaskStatus) -> dict[str, object]:
    accepts = service.engine.accepts(task.name)
    return {
        "name": task.name,
        "description": task.description,
        "schema": task.schema,
        "options": {
            "timeout": task.timeout_s,
            "deadline": task.deadline_s,
            "retries": task.retries,
            "keep": task.keep_s,
            "max_concurrent": task.max_concurrent,
            "run_in": task.run_in,
        },
        "accepts": {
            "json": accepts is None or accepts.json,
            "content": accepts is not None and accepts.content,
            "body_bytes": service.config.limits.body_bytes
            if accepts is None or accepts.body_bytes is None
            else accepts.body_bytes,
        },
        "counts": {
            "unfinished": task.unfinished,
            "running": task.running,
            "succeeded": task.succeeded,
            "failed": task.failed,
            "cancelled": task.cancelled,
        },
        "run_median_seconds": round(task.run_median_s, 6),
        "wait": quantiles(task.wait.buckets),
        "run": quantiles(task.run.buckets),
        **load.members_of(task.load),
        "dispatch": task.hold.dispatch,
        "intake": task.hold.intake,
        "until": None if task.hold.until is None else iso(task.hold.until),
        "reason": task.hold.reason,
    }
