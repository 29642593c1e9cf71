"""An answer to a submission that is made once its jobs are over: it is that of a submission all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvloop
from headway.core.job import State
from headway.protocol.api import batches, submissions
from headway.protocol.api.service import Service
from headway.protocol.http.request import Request
from headway.protocol.http.responses import Held

from tests.lives.server import LOOK_S, PATIENCE_S, Lives, run
from tests.protocol.wire import submission

JOB = submission("echo", 1)
ROUTES = {
    "post": (submissions.submit, b"", JOB),
    "put": (submissions.put, b"order-1", JOB),
    "batch": (batches.submit, b"", b"[%b,%b]" % (JOB, JOB)),
}


@pytest.mark.parametrize("lines", [{}, {b"prefer": b"return=minimal"}, {b"idempotency-key": b"order-2"}], ids=str)
@pytest.mark.parametrize("route", ROUTES)
def test_a_submission_is_202_with_its_location_however_late_it_is_answered(
    route: str, lines: dict[bytes, bytes], tmp_path: Path
) -> None:
    async def test() -> None:
        lives = Lives(tmp_path)
        await lives.start()
        answer, name, body = ROUTES[route]
        asked = Request(lives.config.limits, lambda request: request.limit, lambda _: None, lambda _: None)
        asked.headers, asked.body = {b"content-type": b"application/json"} | lines, body
        held = answer(Service(lives.config, lives.engine), asked, name)
        assert isinstance(held, Held)
        async with asyncio.timeout(PATIENCE_S):
            while lives.engine.counts().jobs[State.SUCCEEDED] < body.count(JOB):  # noqa: ASYNC110 — as it is seen
                await asyncio.sleep(LOOK_S)
        told = held.then()
        assert isinstance(told, bytes)
        assert told.startswith(b"HTTP/1.1 202 ")
        assert told.count(b"\r\nLocation: /%b/" % (b"batches" if route == "batch" else b"jobs")) == 1
        await lives.end()

    run(test(), loop=uvloop.new_event_loop)
