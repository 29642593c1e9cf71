"""The dashboard: a page for a person, and its files. They are the same for everybody.

The page is a client of the API, like curl: there is no route for it alone. Its files lie in
protocol/dashboard as they are served, with no build step. Browsers hold it to POLICY: it loads
nothing from elsewhere, sends nothing elsewhere, and runs no script that is not one of these files,
whatever a job returns.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from headway.protocol.api.page import NOSNIFF, CachedPage
from headway.protocol.api.service import Service
from headway.protocol.http.problems import Refusal
from headway.protocol.http.request import Request
from headway.protocol.http.responses import Answer, Awaited

MEDIA_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
}
# Images of results are shown from memory (blob:).
POLICY = (
    b"Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    b"connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'\r\n"
    b"Referrer-Policy: no-referrer\r\n"
)
VARY = b"Vary: Accept-Encoding\r\n"
PAGE = "index.html"


def page(service: Service, request: Request) -> Answer | Awaited:
    """Return the page at ``/``."""
    return _answer(service, request, PAGE)


def file(service: Service, request: Request, name: bytes) -> Answer | Awaited:
    """GET /dashboard/{name}: a file of the page."""
    return _answer(service, request, name.decode("latin-1"))


def _answer(service: Service, request: Request, name: str) -> Answer | Awaited:
    if name not in _names():
        raise Refusal("not-found", f"the dashboard has no file of this name: {service.config.http.base}/ is its page")
    is_gzip = _takes_gzip(request.headers.get(b"accept-encoding", b""))
    kept = f"dashboard {name} {is_gzip}"
    found = service.pages.get(kept)
    if found is not None:
        return found.answer(request, service.clock)
    return service.pages.once_made(
        kept, lambda: _made(service, name, is_gzip), lambda made: made.answer(request, service.clock)
    )


@cache
def _names() -> frozenset[str]:
    return frozenset(entry.name for entry in _folder().iterdir() if _suffix(entry.name) in MEDIA_TYPES)


def _folder() -> Traversable:
    return files("headway.protocol") / "dashboard"


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]


def _made(service: Service, name: str, is_gzip: bool) -> CachedPage:
    body = (_folder() / name).read_bytes()
    if name == PAGE:
        body = body.replace(b'href="/"', b'href="%b/"' % service.config.http.base.encode(), 1)
    fields = NOSNIFF + POLICY
    if is_gzip:
        body, fields = gzip.compress(body, mtime=0), b"Content-Encoding: gzip\r\n" + fields
    return CachedPage(MEDIA_TYPES[_suffix(name)], body, fields, VARY)


def _takes_gzip(accepts: bytes) -> bool:
    """Whether ``Accept-Encoding`` (RFC 9110, 12.5.3) names gzip, and does not refuse it."""
    for item in accepts.lower().split(b","):
        coding, _, weight = item.partition(b";")
        if coding.strip() == b"gzip":
            return weight.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False
