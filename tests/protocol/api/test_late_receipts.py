"""An answer to a submission that is made once its jobs are over: it is that of a submission all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import uvloop
from headway.core.errors import EngineAwayError
from headway.core.interface import Later
from headway.core.job import State
from headway.protocol.access.scopes import ANYONE
from headway.protocol.api import batches, submissions
from headway.protocol.api.service import Service
from headway.protocol.http.request import Request
from headway.protocol.http.responses import Answer, Awaited

from tests.lives.server import LOOK_S, PATIENCE_S, Lives, run
from tests.protocol.wire import submission

JOB = submission("echo", 1)
ROUTES = {
    "post": (submissions.submit, b"", JOB),
    "put": (submissions.put, b"order-1", JOB),
    "batch": (batches.submit, b"", b"[%b,%b]" % (JOB, JOB)),
}


def request_with(lives: Lives, body: bytes, lines: dict[bytes, bytes]) -> Request:
    """Return a request with content of JSON and these header lines."""
    asked = Request(lives.config.limits, lambda request: request.limit, lambda _: None, lambda _: None)
    asked.headers, asked.body = {b"content-type": b"application/json"} | lines, body
    return asked


@pytest.mark.parametrize("lines", [{}, {b"prefer": b"return=minimal"}, {b"idempotency-key": b"order-2"}], ids=str)
@pytest.mark.parametrize("route", ROUTES)
def test_a_submission_is_202_with_its_location_however_late_it_is_answered(
    route: str, lines: dict[bytes, bytes], tmp_path: Path
) -> None:
    async def test() -> None:
        lives = Lives(tmp_path)
        await lives.start()
        answer, name, body = ROUTES[route]
        asked = request_with(lives, body, lines)
        held = answer(Service(lives.config, lives.engine), asked, name)
        assert isinstance(held, Awaited)
        async with asyncio.timeout(PATIENCE_S):
            while lives.engine.counts().jobs[State.SUCCEEDED] < body.count(JOB):  # noqa: ASYNC110 — as it is seen
                await asyncio.sleep(LOOK_S)
        told = held.then()
        assert isinstance(told, bytes)
        assert told.startswith(b"HTTP/1.1 202 ")
        # The rule for a 202: wait, ask again. It has the fields of any acceptance.
        assert b"\r\nRetry-After: 1\r\nRetry-After-Ms: 1\r\n" in told
        assert b"\r\nExpires: " not in told
        assert told.count(b"\r\nLocation: /%b/" % (b"batches" if route == "batch" else b"jobs")) == 1
        await lives.end()

    run(test(), loop=uvloop.new_event_loop)


class Lost(Later[Any]):
    """A value for which the engine went away."""

    def when_known(self, wake: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_soon(wake)

    def value(self) -> NoReturn:
        raise EngineAwayError


class AwayAfterwards:
    """An engine that is gone once a job has ended, and tells of it then or ``at_once``."""

    def __init__(self, engine: Any, *, at_once: bool) -> None:
        self._engine = engine
        self._at_once = at_once

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def attempts(self, *_: object) -> Lost:
        if self._at_once:
            raise EngineAwayError
        return Lost()

    list_batch = attempts


async def known_answer(answer: Answer | Awaited) -> Answer:
    """Return an answer once it is known."""
    while isinstance(answer, Awaited):
        woken = asyncio.Event()
        answer.unknown.when_known(woken.set)
        async with asyncio.timeout(PATIENCE_S):
            await woken.wait()
        answer = answer.then()
    return answer


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("route", ROUTES)
def test_a_submission_is_202_although_nobody_can_tell_how_its_job_has_ended(
    route: str, at_once: bool, tmp_path: Path
) -> None:
    """After a 503 the client would submit it again, and it would run twice."""

    async def test() -> None:
        lives = Lives(tmp_path)
        await lives.start()
        answer, name, body = ROUTES[route]
        asked = request_with(lives, body, {b"prefer": b"wait=10"})
        asked.caller = ANYONE
        engine: Any = AwayAfterwards(lives.engine, at_once=at_once)
        told = await known_answer(answer(Service(lives.config, engine), asked, name))
        assert isinstance(told, bytes)
        assert told.startswith(b"HTTP/1.1 202 ")
        assert lives.engine.counts().jobs[State.SUCCEEDED] == body.count(JOB)
        await lives.end()

    run(test(), loop=uvloop.new_event_loop)
