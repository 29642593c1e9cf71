"""The conditions that a client sets on a change, in ``If-Match`` and ``If-None-Match`` (RFC 9110, 13.1).

The state of a job, a batch or a task has no ETag. So a change never finds the one that it names, and ``*``, any
state at all, is all that can hold. Conditions on a date count for nothing: nothing here has a date of change.
"""

from __future__ import annotations

from headway.protocol.access.sites import SAFE
from headway.protocol.http.problems import Refusal
from headway.protocol.http.request import Request

ANY = b"*"


def asked(request: Request) -> bool:
    """Whether a request is a change with a condition."""
    headers = request.headers
    return request.method not in SAFE and (b"if-match" in headers or b"if-none-match" in headers)


def check(request: Request, *, is_there: bool = True) -> None:
    """Raise Refusal if a condition of a change does not hold. ``is_there``: its target has a state."""
    wanted, unwanted = request.headers.get(b"if-match"), request.headers.get(b"if-none-match")
    if wanted is not None and wanted != ANY:
        raise Refusal("precondition", "If-Match: what can be changed here has no ETag, so that only * can match")
    if wanted == ANY and not is_there:
        raise Refusal("precondition", "If-Match: no job has come under this key")
    if unwanted == ANY and is_there:
        raise Refusal("precondition", "If-None-Match: it is there already")
