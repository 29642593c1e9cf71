"""Pages of other origins that may use the server: CORS, as the Fetch standard has it.

A browser shows a page no answer of another origin, and sends no PUT, DELETE or JSON for it, unless
the server names the origin of the page. There are no credentials of ours to protect, so none are
allowed: a page gets what anyone gets who can reach the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from headway.core.errors import ConfigError
from headway.protocol.http.request import Request

ANY = "*"
# As browsers send it: lower case, no path, and no port that its scheme has anyway.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?")
_USUAL_PORT = re.compile(r"http://.*:80|https://.*:443")
# Seconds for which a browser need not ask again. Chromium takes no more.
ASKED_AGAIN_S = 7200


class Origins:
    """The origins of the setting ``http.cors_origins``. ``exposed``: the fields that pages see."""

    def __init__(self, origins: tuple[str, ...], exposed: Iterable[str] = (), accepted: Iterable[str] = ()) -> None:
        for origin in origins:
            if origin != ANY and (not _ORIGIN.fullmatch(origin) or _USUAL_PORT.fullmatch(origin)):
                raise ConfigError(
                    f"http.cors_origins: {origin!r} is not an origin as browsers send it; "
                    "expected for instance https://app.example.com or http://localhost:5173, or *"
                )
        expose = b"Access-Control-Expose-Headers: %b\r\n" % ", ".join(exposed).encode()
        allow = b"Access-Control-Allow-Origin: %b\r\n"
        self._lets_all_in = ANY in origins
        # Lines of every answer, also to a request without an origin. An answer for any origin is the
        # same for all, so caches may give it to all.
        self.always = allow % b"*" + expose if self._lets_all_in else b"Vary: Origin\r\n"
        self._fields = {origin.encode(): allow % origin.encode() + expose for origin in origins}
        self._accepted = b"Access-Control-Allow-Headers: %b\r\nAccess-Control-Max-Age: %d\r\n" % (
            ", ".join(accepted).encode(),
            ASKED_AGAIN_S,
        )

    def lets_in(self, origin: bytes | None) -> bool:
        """Whether a page of this origin may ask for anything."""
        return self._lets_all_in or origin in self._fields

    def fields(self, request: Request) -> bytes:
        """Return the further header lines of any answer to a request, besides ``always``."""
        return b"" if self._lets_all_in else self._fields.get(request.headers.get(b"origin", b""), b"")

    def preflight(self, request: Request, allow: bytes) -> bytes:
        """Return the further header lines of an answer to OPTIONS, for a route with ``allow``."""
        if not self.lets_in(request.headers.get(b"origin")):
            return b""
        return b"Access-Control-Allow-Methods: %b\r\n%b" % (allow.removeprefix(b"Allow: ")[:-2], self._accepted)
