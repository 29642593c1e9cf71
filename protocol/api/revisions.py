"""Changing a job that waits: ``PATCH /jobs/{id}``."""

from __future__ import annotations

from headway.core.audit import Act
from headway.core.job import State
from headway.core.status import Status
from headway.protocol.api import bodies
from headway.protocol.api.awaited import once_known
from headway.protocol.api.jobs import find, with_document
from headway.protocol.api.service import Service
from headway.protocol.api.submissions import check_content
from headway.protocol.http.request import Request
from headway.protocol.http.responses import STATUS_LINES, Answer, Awaited


def revise(service: Service, request: Request, name: bytes, act: Act) -> Answer | Awaited:
    """PATCH /jobs/{id}: change the priority or the delay of a job that waits."""
    check_content(request)
    revision = bodies.revision(request.body)

    def changed(status: Status, fields: bytes) -> Answer | Awaited:
        if status.state == State.EXPIRED:
            return with_document(service, request, status, service.heads.job(status) + fields)
        revised = service.engine.revise(status, revision, act)
        return once_known(revised, lambda now: _revised(service, request, now, fields))

    return find(service, name, changed)


def _revised(service: Service, request: Request, status: Status, fields: bytes) -> Answer | Awaited:
    head = service.heads.job(status)
    # The request is done, whatever the job does now.
    if head.startswith(STATUS_LINES[202]):
        head = STATUS_LINES[200] + head.removeprefix(STATUS_LINES[202])
    return with_document(service, request, status, head + fields)
