"""The application that HTTP serves: from a request to its route."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from headway.core.config import Config
from headway.core.errors import HeadwayError
from headway.core.interface import Engine
from headway.protocol.access import sites
from headway.protocol.api import audit, contents, preconditions, routes
from headway.protocol.api.operation import Route
from headway.protocol.api.polls import Polls
from headway.protocol.api.routes import Places
from headway.protocol.api.service import Service, Shared
from headway.protocol.api.submissions import check_content, check_task
from headway.protocol.http.connections import Connections
from headway.protocol.http.problems import Refusal
from headway.protocol.http.request import SENDING, ContentLimit, Request
from headway.protocol.http.responses import Answer, Awaited
from headway.protocol.http.round import ClientRead

log = logging.getLogger(__name__)


class BoundRoute:
    """A route with the method and the id of a request, and who sends it."""

    __slots__ = ("_answer", "_caller", "_id", "_method", "_route", "_service", "name")

    def __init__(self, service: Service, route: Route, request: Request, job_id: bytes) -> None:
        method = request.method
        self._service = service
        self._caller = request.caller
        self._route = route
        self._method = method
        self._id = job_id
        self._answer = route.answers.get(method)
        # The name under which its answers are counted.
        self.name = route.names.get(method, route.path)

    def __call__(self, request: Request) -> Answer | Awaited:
        """Answer. Raises Refusal if the route does not have the method, or as the route does."""
        answer = self._answer or routes.answer_for(self._route, self._method)
        # It may be another request with the same head, which was not looked at.
        request.caller = self._caller
        return answer(self._service, request, self._id)


class Api:
    """The routes over ``engine``, which may be replaced by another. A gateway has more, ``shared`` with others."""

    def __init__(self, config: Config, engine: Engine, shared: Shared | None = None) -> None:
        self.service = Service(config, engine, shared)
        self._polls = Polls(self.service)
        self._places = Places(self.service.base)
        # Whether a request is looked at for its client before its route is.
        self._looks = self.service.limits is not None or self.service.origins is not None
        self.may_repeat = self.service.limits is None and not config.log.access
        self.connections = self.service.connections = Connections(config, self.service.clock, self)

    def bind(self, request: Request) -> BoundRoute:
        """Return the route of a request, as App says."""
        route, job_id = self._allowed(request, counts=True)
        self._check_conditions(request, route)
        return BoundRoute(self.service, route, request, job_id)

    def _allowed(self, request: Request, *, counts: bool = False) -> tuple[Route, bytes]:
        """Return the route of a request, and the id in it. Raises Refusal if its client may not do what it asks for.

        ``counts``: it is about to be answered, so it counts for the limits on its client.
        """
        service = self.service
        request.caller = service.guard.identify(request)
        if counts:
            if self._looks:
                request.fields = self.fields(request)
                if service.limits is not None:
                    service.limits.check(request, self._places.limited(request))
            if b"origin" in request.headers or b"sec-fetch-site" in request.headers:
                sites.check(request, service.origins)
        route, job_id = self._places.find(request.target)
        service.guard.check(request, route.needs(request.method), job_id)
        return route, job_id

    def _check_conditions(self, request: Request, route: Route) -> None:
        """Raise Refusal if a condition on a change does not hold. Of PUT the key tells, which is looked up later."""
        if request.method != b"PUT" and request.method in route.answers and preconditions.asked(request):
            preconditions.check(request)

    def fields(self, request: Request) -> bytes:
        """Return header lines of any answer to a request, as App says."""
        return b"" if self.service.origins is None else self.service.origins.fields(request)

    def content_limit(self, request: Request) -> ContentLimit:
        """Return the limit on the content of a request, as App says."""
        limit = contents.content_limit(self.service, request)
        # Who may not submit this task is told nothing of it, and may not send more for it either.
        return request.limit if limit is None or not self._may_submit(request) else limit

    def _may_submit(self, request: Request) -> bool:
        """Whether a request with content for a task may submit it."""
        try:
            check_task(request, contents.task_of(self._allowed(request)[1]))
        except Refusal:
            return False
        return True

    def expect(self, request: Request) -> None:
        """Raise if the content of a request is not worth sending, as App says."""
        service = self.service
        route, name = self._allowed(request)
        routes.answer_for(route, request.method)
        self._check_conditions(request, route)
        if request.method in SENDING:
            if route is routes.CONTENTS:
                contents.check(service, request, name)
            else:
                check_content(request)
            # What came before under its key needs no room.
            if request.method != b"PUT" and b"idempotency-key" not in request.headers:
                service.engine.check_room()

    def poll_rest(self, request: Request, data: bytes) -> bytes | None:
        """Return the part of a poll after the id, as App says."""
        rest = self._polls.rest(request.target, data)
        return rest if rest is not None and self._may(request) else None

    def _may(self, request: Request) -> bool:
        """Whether a request may do what it asks for. If so, any with the same head may, but for the id in it."""
        try:
            # Its copy was answered, and this one was not looked at.
            self._allowed(request)
        except Refusal:
            return False
        return True

    def answer_polls(self, reads: Iterator[ClientRead], now: float) -> None:
        """Answer reads, as App says."""
        self._polls.answer(reads, now)

    def address(self, peer: str) -> bytes:
        """Return the key under which the connections of ``peer`` are counted, as App says."""
        return self.service.clients.key_of_peer(peer)

    def retry_after_s(self) -> float:
        """Return in how many seconds a client that cannot be served now comes back, as App says."""
        return self.service.engine.retry_after_s()

    def tick(self) -> None:
        """A second has passed."""
        self.service.tick()
        self.service.guard.reread(self._tokens_changed)

    def _tokens_changed(self) -> None:
        """The tokens were read again: what a connection was allowed to it may no longer be."""
        self.connections.forget()
        try:
            self.service.engine.note(audit.RELOADED)
        except HeadwayError as error:
            log.warning("the audit log does not have that the tokens were read again: %s", error)
