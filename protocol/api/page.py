"""Content that is the same for all clients of a server, with an ETag."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
from headway.protocol.api.made import Made
from headway.protocol.http.clock import Clock
from headway.protocol.http.request import Request
from headway.protocol.http.responses import STATUS_LINES, Answer, Awaited, complete_shared

# A browser takes the media type as it is said.
NOSNIFF = b"X-Content-Type-Options: nosniff\r\n"


class CachedPage(msgspec.Struct):
    """Content made once. ``fields``: more header lines. ``vary``: those that a 304 has, too (RFC 9110, 15.4.5)."""

    media_type: bytes
    body: bytes
    fields: bytes = NOSNIFF
    vary: bytes = b""
    tag: bytes = b""

    def __post_init__(self) -> None:
        self.tag = b'"%b"' % hashlib.sha256(self.body).hexdigest()[:32].encode()

    def answer(self, request: Request, clock: Clock) -> Answer:
        """Return the page, or 304 if the client has it."""
        fields = b"%bCache-Control: no-cache\r\nETag: %b\r\n%b" % (clock.date, self.tag, self.vary)
        if matches(request.headers.get(b"if-none-match"), self.tag):
            return STATUS_LINES[304] + fields + b"\r\n"
        head = STATUS_LINES[200] + fields + self.fields
        return complete_shared(head, self.media_type, self.body, request.method == b"HEAD")


class CachedPages:
    """Pages by name. Each is made once, in a thread, for all who ask for it meanwhile.

    One that tells ``facts`` is made again when these are others.
    """

    def __init__(self) -> None:
        self._pages: dict[str, tuple[object, CachedPage]] = {}
        self._making: dict[str, tuple[object, Made[CachedPage]]] = {}

    def get(self, name: str) -> CachedPage | None:
        """Return a page as it was made last, None if it is not made yet."""
        return self._pages[name][1] if name in self._pages else None

    def tells(self, name: str, facts: object) -> bool:
        """Whether a page was made of ``facts``."""
        return name in self._pages and self._pages[name][0] == facts

    def once_made(
        self, name: str, make: Callable[[], CachedPage], then: Callable[[CachedPage], Answer], facts: object = None
    ) -> Awaited:
        """Return the answer that ``then`` gives with the page that ``make`` returns."""
        making = self._making.get(name)
        if making is None or making[0] != facts:
            making = self._making[name] = facts, Made(make)
        return Awaited(making[1], lambda: then(self._taken(name, *making)))

    def _taken(self, name: str, facts: object, made: Made[CachedPage]) -> CachedPage:
        # If it raises, the next request tries again.
        self._making.pop(name, None)
        page = made.thing()
        self._pages[name] = facts, page
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
