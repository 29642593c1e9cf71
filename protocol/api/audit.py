"""The audit log: ``GET /audit`` tells who has changed what, newest first, some at a time.

``operation`` makes the acts of clients, in one place for all routes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
import orjson
from headway.core import ids
from headway.core.audit import Act, AuditEntry
from headway.protocol.access.scopes import reads
from headway.protocol.api import queries
from headway.protocol.api.awaited import once_known
from headway.protocol.api.service import Service
from headway.protocol.http.caller import Caller
from headway.protocol.http.clock import iso
from headway.protocol.http.request import Request
from headway.protocol.http.responses import JSON, STATUS_LINES, Answer, Awaited, bodiless, complete
from msgspec import Meta

# What the server does by itself: it has read the tokens again.
RELOADED = Act("reloadTokens")
# The code of an answer to a change that goes on after it.
GOES_ON = 202
# A text that stood in an error, in the filter of an order.
_ERROR = re.compile(r"(?:(?<=&)|\A)error=[^&]*")


class AuditQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of ``GET /audit``. ``after`` is the end of the page before."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    after: Annotated[int, Meta(ge=0, le=1 << 53)] = 0


def audit(service: Service, request: Request, _: bytes) -> Answer | Awaited:
    """GET /audit: the last changes."""
    query = queries.read(request.target, AuditQuery)
    # One more: whether there is another page.
    found = service.engine.audit(query.after, query.limit + 1)
    return once_known(found, lambda found: _told(service, request, query, found))


def _told(service: Service, request: Request, query: AuditQuery, found: Sequence[AuditEntry]) -> bytes:
    head, after = STATUS_LINES[200] + service.clock.fields, None
    if len(found) > query.limit:
        found = found[: query.limit]
        after = f"{service.config.http.base}/audit?limit={query.limit}&after={found[-1].number}"
        head += b'Link: <%b>; rel="next"\r\n' % after.encode()
    if request.method == b"HEAD":
        return bodiless(head, JSON)
    entries = [_members(entry, request.caller) for entry in found]
    return complete(head, JSON, orjson.dumps({"entries": entries, "next": after}), bodiless=False)


def _members(entry: AuditEntry, caller: Caller) -> dict[str, object]:
    act = entry.act
    target, job, wanted = act.target, act.job, act.wanted
    if not caller.sees_ids:
        target, job = _seen(target), _seen(job)
    if not reads(caller):
        wanted = _ERROR.sub("error=…", wanted)
    return {
        "number": entry.number,
        "time": iso(entry.at),
        "who": act.who or None,
        "address": act.address or None,
        "what": act.what,
        "target": target or None,
        "filter": wanted or None,
        "count": act.count,
        "job": job or None,
        "code": (GOES_ON if act.goes_on else act.code) or None,
    }


def _seen(name: str) -> str:
    """Return the part of an id that anyone may see. A key that a client chose is no id."""
    text = name.encode()
    return ids.without_tag(text).decode() if ids.has_form(text) else name
