"""An operation: a method of a route, the function that answers it, and the words that describe it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import unquote

import msgspec
from headway.core.audit import Act
from headway.protocol.access.guard import Needs
from headway.protocol.api.fields import ID_OR_KEY, Schema
from headway.protocol.api.service import Service
from headway.protocol.http.request import Request
from headway.protocol.http.responses import STATUS_LINES, Answer, Awaited

NOTHING = Needs()
Answerer: TypeAlias = Callable[[Service, Request, bytes], Answer | Awaited]
# Of an operation that changes what others may see. The engine keeps the act with the change.
Changer: TypeAlias = Callable[[Service, Request, bytes, Act], Answer | Awaited]


class Audited(msgspec.Struct, frozen=True):
    """The function of an operation whose changes go to the audit log."""

    answer: Changer
    # That of its answer once it has made the change.
    code: int


class Says(msgspec.Struct, frozen=True):
    """A kind of answer. Each answer has Date and Cache-Control besides ``fields``."""

    # The code. A state stands for the code of a job, or batch, in that state.
    code: int
    text: str
    # Header fields that it always has, and those that it has if they apply.
    fields: tuple[str, ...] = ()
    maybe: tuple[str, ...] = ()
    # Media type to the name of a schema.
    content: tuple[tuple[str, str], ...] = ()
    # Whether ``Prefer: return=minimal`` leaves out the content.
    minimal: bool = False


class Operation(msgspec.Struct, frozen=True):
    """A method of a route. GET stands for HEAD as well."""

    method: str
    answer: Answerer | Audited
    # For generated clients: unique, and the same for ever.
    name: str
    summary: str
    says: tuple[Says, ...]
    needs: Needs
    # The header fields that it reads.
    asks: tuple[str, ...] = ()
    # The struct of its query, None if it reads none.
    query: type[msgspec.Struct] | None = None
    # The name of the schema of its content, empty if it has none, and the media types of it.
    sends: str = ""
    sends_as: tuple[str, ...] = ("application/json",)
    # Of the part of the path in braces.
    place: Schema = msgspec.field(default_factory=lambda: ID_OR_KEY)
    # The reasons for which it may refuse, besides those of any request.
    refuses: tuple[str, ...] = ()


def _answerer(operation: Operation) -> Answerer:
    """Return the function of an operation, as a route calls it."""
    audited = operation.answer
    if not isinstance(audited, Audited):
        return audited

    def answer(service: Service, request: Request, place: bytes) -> Answer | Awaited:
        act = Act(
            operation.name,
            who=request.caller.name,
            address=service.clients.address(request.peer, request.headers),
            target=unquote(place.decode("latin-1")),
            code=audited.code,
        )
        return audited.answer(service, request, place, act)

    return answer


class Route:
    """A path with its operations. Their functions get ``{…}`` of the path after the request."""

    def __init__(self, path: str, *operations: Operation, limited: bool = False, allow: bytes = b"") -> None:
        self.path = path
        # Whether each request counts for the limits on its client.
        self.limited = limited
        self.operations = operations
        self.answers = {operation.method.encode(): _answerer(operation) for operation in operations}
        if b"GET" in self.answers:
            self.answers[b"HEAD"] = self.answers[b"GET"]
        self.answers[b"OPTIONS"] = self._options
        self._needs = {operation.method.encode(): operation.needs for operation in operations}
        self.allow = allow or b"Allow: %b\r\n" % b", ".join(sorted(self.answers))
        # The names under which requests are counted.
        self.names = {method: f"{method.decode()} {path}" for method in self.answers}

    def __repr__(self) -> str:
        return f"<Route {self.path}>"

    def needs(self, method: bytes) -> Needs:
        """Return what a request with ``method`` needs: nothing to be told that there is no such method."""
        return self._needs.get(b"GET" if method == b"HEAD" else method, NOTHING)

    def _options(self, service: Service, request: Request, _: bytes) -> bytes:
        """OPTIONS: the methods of the route, and for a browser what a page of its origin may send."""
        fields = self.allow + service.clock.fields
        if service.origins is not None:
            fields += service.origins.preflight(request, self.allow)
        return STATUS_LINES[204] + fields + b"\r\n"
