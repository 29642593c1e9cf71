"""A gateway that is about to go leaves no client without an answer, whether its engine is there or not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from headway.core.config import Config
from headway.core.errors import EngineRestartsError
from headway.core.gateway import wire
from headway.core.gateway.calls import OpenCall, OpenCalls
from headway.core.gateway.engine import GatewayEngine
from headway.core.interface import Soon
from headway.core.job import State, Submission
from headway.core.status import Status, bare

from tests.core.engines import known
from tests.core.gateway.test_calls import Sent

JOB = bare(State.QUEUED, 1, b"an id")
ADD = Submission("add", msgspec.Raw(b"1"))


async def test_a_call_that_is_kept_is_refused_before_the_gateway_goes(tmp_path: Path) -> None:
    gateway = GatewayEngine(Config(), str(tmp_path / "nobody"), "")
    kept = gateway.submit(ADD)
    await gateway.drain(0.0)
    with pytest.raises(EngineRestartsError):
        await asyncio.wait_for(known(kept), 0.5)
    with pytest.raises(EngineRestartsError):
        gateway.submit(ADD)


async def test_who_would_wait_at_a_gateway_that_goes_is_answered_at_once(tmp_path: Path) -> None:
    gateway = GatewayEngine(Config(), str(tmp_path / "nobody"), "")
    before: Soon[Status] = gateway.wait(JOB, 60)
    waits = asyncio.create_task(known(before))
    await asyncio.sleep(0)
    await gateway.drain(0.0)
    after: Soon[Status] = gateway.wait(JOB, 60)
    for waiting in (waits, known(after)):
        with pytest.raises(EngineRestartsError):
            await asyncio.wait_for(waiting, 0.5)


async def test_calls_that_wait_for_a_log_hurry_when_their_gateway_goes() -> None:
    calls, link = OpenCalls(), Sent()
    calls.open(link)
    calls.ask("task", ("add",))
    waits = calls.ask("wait_log", (JOB, 0, 60.0))
    calls.hurry()
    assert link.frames[2:] == [(wire.HURRY, waits.number)]


async def test_a_log_is_not_waited_for_at_a_gateway_that_goes(tmp_path: Path) -> None:
    gateway = GatewayEngine(Config(), str(tmp_path / "nobody"), "")
    await gateway.drain(0.0)
    asked = gateway.wait_log(JOB, 0, 60.0)
    assert isinstance(asked, OpenCall)
    assert wire.read_arguments("wait_log")(asked.message[1:])[2] == 0.0
