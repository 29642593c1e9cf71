"""Method and path to function. The functions call the engine and nothing else.

Places are kept for ``/openapi.json`` and ``/`` (the dashboard).
"""

from __future__ import annotations

from collections.abc import Callable

from headway.protocol.api import batches, contents, health, jobs, submissions, tasks
from headway.protocol.api.service import Service
from headway.protocol.http.problems import Refusal
from headway.protocol.http.request import Request
from headway.protocol.http.responses import Answer, Held

Answerer = Callable[[Service, Request, bytes], Answer | Held]


class Route:
    """A path with a function for each method. It gets ``{id}`` of the path after the request."""

    def __init__(self, path: str, limited: bool = False, **answers: Answerer) -> None:
        self.path = path
        # Whether each request counts for the limits on its client.
        self.limited = limited
        self.answers = {method.encode(): answer for method, answer in answers.items()}
        if b"GET" in self.answers:
            self.answers[b"HEAD"] = self.answers[b"GET"]
        self.allow = b"Allow: %b\r\n" % b", ".join(sorted(self.answers))
        # The names under which requests are counted.
        self.names = {method: f"{method.decode()} {path}" for method in self.answers}


def find(target: bytes) -> tuple[Route, bytes]:
    """Return the route of a request target and the id in it. Raises Refusal if there is none."""
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
    elif path.startswith(b"/batches/"):
        return BATCH, path[9:]
    elif path.startswith(b"/tasks/"):
        name, slash, part = path[7:].partition(b"/")
        if not slash:
            return TASK, name
        if part == b"jobs":
            return CONTENTS, name
    raise Refusal("not-found", "there is no such route: docs/protocol.md lists them")


def limited(target: bytes) -> bool:
    """Whether a request for ``target`` counts for its client's limits. One without a route does."""
    route = FIXED.get(target.partition(b"?")[0])
    return route is None or route.limited


def answer_for(route: Route, method: bytes) -> Answerer:
    """Return the function for ``method``. Raises Refusal if the route does not have it."""
    answer = route.answers.get(method)
    if answer is None:
        raise Refusal("method", f"{route.path} has {route.allow[7:-2].decode()}", fields=route.allow)
    return answer


JOB = Route("/jobs/{id}", limited=True, GET=jobs.job, PUT=submissions.put, DELETE=jobs.delete)
BATCH = Route("/batches/{id}", limited=True, GET=batches.batch, DELETE=batches.delete)
TASK = Route("/tasks/{name}", limited=True, GET=tasks.task)
CONTENTS = Route("/tasks/{name}/jobs", limited=True, POST=contents.submit)
PARTS = {
    b"result": Route("/jobs/{id}/result", limited=True, GET=jobs.result),
    b"retry": Route("/jobs/{id}/retry", limited=True, POST=submissions.retry),
}
FIXED = {
    route.path.encode(): route
    for route in (
        Route("/jobs", limited=True, GET=jobs.listing, POST=submissions.submit),
        Route("/batches", limited=True, POST=batches.submit),
        Route("/tasks", limited=True, GET=tasks.listing),
        Route("/healthz", GET=health.healthz),
        Route("/readyz", GET=health.readyz),
        Route("/stats", limited=True, GET=health.stats),
        Route("/metrics", limited=True, GET=health.exposition),
    )
}
ROUTES = (JOB, BATCH, TASK, CONTENTS, *PARTS.values(), *FIXED.values())
