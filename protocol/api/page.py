"""Content that is the same for all clients of a server, with an ETag."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
from headway.protocol.api.made import Made
from headway.protocol.http.clock import Clock
from headway.protocol.http.request import Request
from headway.protocol.http.responses import STATUS_LINES, Answer, Held, complete_shared

# A browser takes the media type as it is said.
NOSNIFF = b"X-Content-Type-Options: nosniff\r\n"


class CachedPage(msgspec.Struct):
    """Content made once. ``fields``: more header lines."""

    media_type: bytes
    body: bytes
    fields: bytes = NOSNIFF
    tag: bytes = b""

    def __post_init__(self) -> None:
        self.tag = b'"%b"' % hashlib.sha256(self.body).hexdigest()[:32].encode()

    def answer(self, request: Request, clock: Clock) -> Answer:
        """Return the page, or 304 if the client has it."""
        fields = b"%bCache-Control: no-cache\r\nETag: %b\r\n" % (clock.date, self.tag)
        if matches(request.headers.get(b"if-none-match"), self.tag):
            return STATUS_LINES[304] + fields + b"\r\n"
        head = STATUS_LINES[200] + fields + self.fields
        return complete_shared(head, self.media_type, self.body, request.method == b"HEAD")


class CachedPages:
    """Pages by name. Each is made once, in a thread, for all who ask for it meanwhile."""

    def __init__(self) -> None:
        self._pages: dict[str, CachedPage] = {}
        self._making: dict[str, Made[CachedPage]] = {}

    def get(self, name: str) -> CachedPage | None:
        """Return a page, None if it is not made yet."""
        return self._pages.get(name)

    def once_made(self, name: str, make: Callable[[], CachedPage], then: Callable[[CachedPage], Answer]) -> Held:
        """Return the answer that ``then`` gives with the page that ``make`` returns."""
        made = self._making.get(name)
        if made is None:
            made = self._making[name] = Made(make)
        return Held(made, lambda: then(self._taken(name, made)))

    def _taken(self, name: str, made: Made[CachedPage]) -> CachedPage:
        # If it raises, the next request tries again.
        self._making.pop(name, None)
        page = self._pages[name] = made.thing()
        return page


def version() -> str:
    """Return the version of the server. Its first use takes 10 ms, so it is made in a thread."""
    from importlib.metadata import version

    return version("headway")


def matches(if_none_match: bytes | None, tag: bytes) -> bool:
    """Whether the header names ``tag``, compared weakly (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    named = [item.strip().removeprefix(b"W/") for item in if_none_match.split(b",")]
    return tag in named or named == [b"*"]
