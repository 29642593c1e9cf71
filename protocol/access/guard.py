"""What a request may do: its name of the server, its token, and the scopes of its operation.

An id has a keyed tag that nobody can make, so whoever has one got it from the client that submitted the job, or
from the server. So it is a *capability*: enough to read and to cancel its job, unless ``auth.reads`` is
``token``. A key that a client chose can be guessed, and is none: not without tokens either, from another machine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from headway.core import ids
from headway.core.errors import ConfigError
from headway.protocol.access.clients import Clients
from headway.protocol.access.hosts import Hosts
from headway.protocol.access.scopes import ANYONE, READ, VIEW
from headway.protocol.access.tokens import Tokens
from headway.protocol.http.caller import NOBODY, UNKNOWN, Caller
from headway.protocol.http.problems import Refusal
from headway.protocol.http.request import Request

log = logging.getLogger(__name__)

BEARER = b"bearer"
# RFC 6750, 3: what a client is told of a token that is missing, unknown, or not enough.
REALM = b'WWW-Authenticate: Bearer realm="headway"\r\n'
INVALID = b'WWW-Authenticate: Bearer realm="headway", error="invalid_token"\r\n'
NOT_ENOUGH = b'WWW-Authenticate: Bearer realm="headway", error="insufficient_scope", scope="%b"\r\n'


class Needs:
    """What an operation needs: one of ``scopes``, none for anyone.

    ``by_id``: the id of its job or batch may do instead. ``by_key``: the key of a client may name its job.
    ``of_all``: it is about jobs that others submitted.
    """

    __slots__ = ("by_id", "by_key", "of_all", "scopes")

    def __init__(self, *scopes: str, by_id: bool = False, by_key: bool = False, of_all: bool = False) -> None:
        self.scopes = frozenset(scopes)
        self.by_id = by_id
        self.by_key = by_key
        self.of_all = of_all

    def __repr__(self) -> str:
        return f"<Needs {' '.join(sorted(self.scopes)) or 'nothing'}>"


class Guard:
    """Checks requests. ``tokens`` are None where the settings let anyone in."""

    def __init__(self, tokens: Tokens | None, hosts: Hosts, clients: Clients, *, ids_tell: bool) -> None:
        self._tokens = tokens
        self._hosts = hosts
        self._clients = clients
        self._ids_tell = ids_tell

    @property
    def asks(self) -> bool:
        """Whether clients need a token."""
        return bool(self._tokens)

    def identify(self, request: Request) -> Caller:
        """Return who sends a request. Raises Refusal if it is for another name than the server's."""
        self._hosts.check(request.headers.get(b"host"))
        if not self._tokens:
            return ANYONE
        value = request.headers.get(b"authorization")
        if value is None:
            return NOBODY
        scheme, _, token = value.partition(b" ")
        return (self._tokens.caller(token.strip(b" ")) if scheme.lower() == BEARER else None) or UNKNOWN

    def check(self, request: Request, needs: Needs, place: bytes) -> None:
        """Raise Refusal if a request may not do an operation at ``place``, the part of its path in braces."""
        if not needs.scopes:
            return
        if not self._tokens:
            guessed = needs.by_key and not ids.has_form(place)
            if (needs.of_all or guessed) and not self._clients.is_near(request):
                what, way = ("a key", "use the id, or ") if guessed else ("this", "")
                raise Refusal(
                    "scope",
                    f"without tokens {what} is answered on the server's own machine only: {way}make one with headway "
                    "token add",
                )
            return
        caller, scopes = request.caller, needs.scopes
        if not caller.is_known:
            raise Refusal("token", "no such token: send Authorization: Bearer TOKEN, see headway token", fields=INVALID)
        if needs.by_id and self._ids_tell:
            if ids.has_form(place):
                return
            if VIEW in scopes:
                # The answer names the id.
                scopes = frozenset({READ})
        if not caller.has(scopes):
            raise _missing(caller, scopes)

    def reread(self, changed: Callable[[], None]) -> None:
        """Read the tokens again if their file has changed, and call ``changed`` then."""
        if self._tokens is None:
            return
        try:
            if self._tokens.reread():
                if self._tokens and not self._tokens.count:
                    text = "tokens read again from %s: there is none, so nobody is let in. headway token add makes one"
                    log.warning(text, self._tokens.path)
                else:
                    log.info("tokens read again from %s", self._tokens.path)
                changed()
        except ConfigError as error:
            log.error("%s. The tokens stay as they were.", error)


def _missing(caller: Caller, scopes: frozenset[str]) -> Refusal:
    wanted = " or ".join(sorted(scopes))
    if not caller.name:
        return Refusal("token", f"send Authorization: Bearer TOKEN, of a token with the scope {wanted}", fields=REALM)
    fields = NOT_ENOUGH % " ".join(sorted(scopes)).encode()
    return Refusal("scope", f"the token {caller.name!r} has no scope {wanted}", fields=fields)
