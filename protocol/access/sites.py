"""Changes that a browser asks for because a page of another site says so: cross-site request forgery.

A browser sends a POST of content such as text/plain for any page, without asking, and this server
may be one that only the browser's machine can reach. So a change is refused if the browser names
another site as its cause: in ``Sec-Fetch-Site`` (W3C Fetch Metadata), or in ``Origin``, which is
compared with ``Host``. The origins of ``http.cors_origins`` are let in. Clients that are no
browsers send neither field.
"""

from __future__ import annotations

from headway.protocol.access.origins import Origins
from headway.protocol.http.problems import Refusal
from headway.protocol.http.request import Request

# Methods that change nothing (RFC 9110, 9.2.1).
SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
# Set by a page of this server, and by a person.
OURS = frozenset({b"same-origin", b"none"})


def check(request: Request, origins: Origins | None) -> None:
    """Raise Refusal for a change that a page of another site asks for."""
    headers = request.headers
    if request.method in SAFE or headers.get(b"sec-fetch-site") in OURS:
        return
    origin = headers.get(b"origin")
    if origins is not None and origins.lets_in(origin):
        return
    if b"sec-fetch-site" in headers or (origin is not None and origin.partition(b"://")[2] != headers.get(b"host")):
        raise Refusal("origin", "a page of another site asks for this: http.cors_origins lists those that may")
