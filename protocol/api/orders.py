"""Orders about many jobs: ``POST /jobs/retry``, ``POST /jobs/cancel`` and ``POST /jobs/delete``.

The query is the filter of ``GET /jobs``. An order is a job, and the answer is that to a submission.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import orjson
from headway.core.audit import Act
from headway.core.errors import InvalidError
from headway.core.key import Key
from headway.core.order import Action
from headway.protocol.api import filters
from headway.protocol.api.awaited import once_known
from headway.protocol.api.operation import Changer
from headway.protocol.api.service import Service
from headway.protocol.api.submissions import accepted, key_of
from headway.protocol.http.request import Request
from headway.protocol.http.responses import JSON, STATUS_LINES, Answer, Awaited, complete
from msgspec.structs import replace


class OrderQuery(filters.FilterQuery, frozen=True, forbid_unknown_fields=True, rename={"dry_run": "dry-run"}):
    """The query of an order. ``dry-run=1``: tell how many jobs fit, and do nothing."""

    dry_run: Literal[0, 1] = 0


def order(action: Action) -> Changer:
    """Return the function that accepts orders for ``action``."""

    def accept(service: Service, request: Request, _: bytes, act: Act) -> Answer | Awaited:
        key = None
        if b"idempotency-key" in request.headers:
            key = Key.of(key_of(request), request.target, b"order")
        if request.body:
            raise InvalidError([("", "expected no content: the filter of an order is its query")])
        query = filters.read(request.target, OrderQuery)
        filters.check(query, request.caller)
        wanted = filters.job_filter(query)
        if query.dry_run:
            return once_known(service.engine.count_meant(action, wanted), lambda found: _matches(service, found))
        asked = replace(act, wanted=filters.written(query).rstrip("&"))
        return once_known(
            service.engine.order(action, wanted, key, asked), lambda submitted: accepted(service, request, submitted)
        )

    return accept


def _matches(service: Service, found: Mapping[str, int]) -> bytes:
    body = orjson.dumps({"matches": sum(found.values()), "by_task": dict(found)})
    return complete(STATUS_LINES[200] + service.clock.fields, JSON, body, bodiless=False)
