"""The API describes itself: ``/openapi.json`` and ``/`` to programs, ``/docs`` to persons.

All are made of the table of routes, by the first request, and those that name tasks anew when these
are others. A person gets the dashboard at ``/``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson
from headway.core.errors import HeadwayError
from headway.core.interface import Later, Soon
from headway.core.later import Otherwise
from headway.core.status import TaskStatus
from headway.protocol.access.scopes import knows
from headway.protocol.api import dashboard
from headway.protocol.api.awaited import once_known
from headway.protocol.api.operation import Route
from headway.protocol.api.page import NOSNIFF, CachedPage, version
from headway.protocol.api.service import Service
from headway.protocol.http.request import Request
from headway.protocol.http.responses import JSON, STATUS_LINES, Answer, Awaited, complete

# Changes when a client of before cannot go on as it is.
CONTRACT = 1
HTML = b"text/html; charset=utf-8"


def openapi(service: Service, request: Request, routes: Sequence[Route]) -> Answer | Awaited:
    """GET /openapi.json: the routes, OpenAPI 3.1."""

    def make(tasks: Sequence[TaskStatus]) -> CachedPage:
        from headway.protocol.api import openapi

        described = openapi.document(routes, service, {task.name: task.schema for task in tasks})
        return CachedPage(JSON, orjson.dumps(described))

    # It says what a token needs once there is one.
    name = "openapi with tokens" if service.guard.asks else "openapi"
    return _of_tasks(service, request, name, make)


def docs(service: Service, request: Request, routes: Sequence[Route]) -> Answer | Awaited:
    """GET /docs: the routes, for a person."""

    def make(tasks: Sequence[TaskStatus]) -> CachedPage:
        from headway.protocol.api import pages

        return CachedPage(HTML, pages.docs(routes, service, tasks), NOSNIFF + pages.POLICY)

    return _of_tasks(service, request, "docs", make)


def index(service: Service, request: Request, routes: Sequence[Route]) -> Answer | Awaited:
    """GET /: what this is and what it can do, as a page if the client prefers HTML."""
    if prefers_html(request.headers.get(b"accept", b"").decode("latin-1")):
        return dashboard.page(service, request)

    def tell(page: CachedPage) -> Answer:
        return _uncached(service, request, page, page.body)

    page = service.pages.get("index")
    if page is not None:
        return tell(page)
    # A program learns at any time what this is, also while no task is known.
    return service.pages.once_made("index", lambda: CachedPage(JSON, _index(service, routes)), tell)


def _uncached(service: Service, request: Request, page: CachedPage, body: bytes) -> Answer:
    head = STATUS_LINES[200] + service.clock.fields + page.fields
    return complete(head, page.media_type, body, request.method == b"HEAD")


def _index(service: Service, routes: Sequence[Route]) -> bytes:
    methods = {route.path: sorted(map(bytes.decode, route.answers)) for route in routes}
    members = {
        "server": "headway",
        "version": version(),
        "contract": CONTRACT,
        "routes": {service.config.http.base + path: names for path, names in methods.items()},
    }
    return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)


def _of_tasks(
    service: Service,
    request: Request,
    name: str,
    make: Callable[[Sequence[TaskStatus]], CachedPage],
) -> Answer | Awaited:
    """Return the answer to a request for a page, which is made of the tasks.

    A client that may not know all of them gets a page that names none. Raises RecoveringError while none is known.
    """
    if knows(request.caller) is not None:
        return _of_these(service, request, f"{name} without tasks", make, ())
    last = service.pages.get(name)
    try:
        tasks: Soon[Sequence[TaskStatus] | None] = service.engine.tasks()
    except HeadwayError:
        if last is None:
            raise
        tasks = None
    if isinstance(tasks, Later) and last is not None:
        tasks = Otherwise(tasks, lambda _: None)
    return once_known(tasks, lambda tasks: _of_these(service, request, name, make, tasks))


def _of_these(
    service: Service,
    request: Request,
    name: str,
    make: Callable[[Sequence[TaskStatus]], CachedPage],
    tasks: Sequence[TaskStatus] | None,
) -> Answer | Awaited:
    """Do the same with these tasks. None: they cannot be read, so the last page has to do."""
    page = service.pages.get(name)
    # Of nodes that share a queue, one may come with another task.
    facts = None if tasks is None else [(task.name, task.description, task.schema) for task in tasks]
    if page is not None and (tasks is None or service.pages.tells(name, facts)):
        return page.answer(request, service.clock)
    named = tasks or ()
    return service.pages.once_made(name, lambda: make(named), lambda page: page.answer(request, service.clock), facts)


def prefers_html(accept: str) -> bool:
    """Whether ``Accept`` (RFC 9110, 12.5.1) names HTML, and gives it more weight than JSON."""
    weights: dict[str, float] = {}
    for item in accept.lower().split(","):
        media_range, *parameters = (part.strip() for part in item.split(";"))
        weights[media_range] = _weight(parameters)
    return weights.get("text/html", 0.0) > weights.get("application/json", 0.0)


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
