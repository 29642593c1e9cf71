"""The engine's end of all links: what gateways are told, and before a deploy."""

from __future__ import annotations

import asyncio
import socket
import time
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headway.core.gateway import wire
from headway.core.gateway.engine import decode_runs
from headway.core.gateway.link import BUFFER_BYTES, EngineLink
from headway.core.gateway.links import GatewayLinks
from headway.core.gateway.showing import Showing
from headway.core.gateway.standing import Standing
from headway.core.local.engine import LocalEngine
from headway.core.tasks.registry import Options, Registry

from tests.core.engines import double, engine_with, forever, settings, submit, until


class FailsOnce(Showing):
    """What gateways are told, but for the second time that it is asked."""

    asked = 0

    def standing(self) -> Standing:
        """Return how things stand."""
        self.asked += 1
        if self.asked == 2:
            raise RuntimeError("nobody knows how things stand")
        return super().standing()


async def test_gateways_are_told_again_after_that_has_failed() -> None:
    registry = Registry()
    registry.add(double, Options())
    engine = LocalEngine(settings(), registry)
    showing, loop = FailsOnce(engine, ""), asyncio.get_running_loop()
    failed: list[str] = []
    loop.set_exception_handler(lambda _, context: failed.append(str(context["exception"])))
    links = GatewayLinks(engine, showing)
    ours, gateway = socket.socketpair()
    with gateway:
        ours.setblocking(False)
        await links.enter(ours)
        await until(lambda: showing.asked > 3)
        links.close()
    assert failed == ["nobody knows how things stand"]


async def test_a_deploy_waits_until_gateways_have_taken_the_last_answers() -> None:
    registry = Registry()
    registry.add(double, Options())
    engine = LocalEngine(settings(), registry)
    links, loop = GatewayLinks(engine, Showing(engine, "")), asyncio.get_running_loop()
    ours, gateway = socket.socketpair()
    with gateway:
        for end in (ours, gateway):
            end.setblocking(False)
        await links.enter(ours)
        links.gateways[0].link.send(wire.VALUE, 1, bytes(BUFFER_BYTES))
        await loop.sock_sendall(gateway, wire.frame(wire.PAUSED, 0))
        pausing = asyncio.create_task(links.pause())
        await asyncio.sleep(0.1)
        assert not pausing.done()

        async def take() -> None:
            while await loop.sock_recv(gateway, BUFFER_BYTES):
                continue

        taking = asyncio.create_task(take())
        await asyncio.wait_for(pausing, 0.5)
        links.close()
        await until(taking.done)


@asynccontextmanager
async def heard_of(engine: LocalEngine) -> AsyncIterator[list[tuple[int, bytes]]]:
    """What a gateway of ``engine`` is told, kind and message of each frame."""
    heard: list[tuple[int, bytes]] = []
    links, loop = GatewayLinks(engine, Showing(engine, "")), asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    await links.enter(ours)
    # Whether a file comes with it.
    await loop.sock_recv(theirs, 1)
    _, link = await loop.create_connection(
        lambda: EngineLink(lambda kind, _, message: heard.append((kind, message)), int), sock=theirs
    )
    try:
        yield heard
    finally:
        links.close()
        link.close()


async def test_a_run_time_is_told_soon_though_all_stands_as_before() -> None:
    tasks = [types.FunctionType(double.__code__, {}, f"task{number}") for number in range(8)]
    async with engine_with(*tasks, workers=1) as engine, heard_of(engine) as heard:

        def known() -> set[int]:
            told = [decode_runs(message) for kind, message in heard if kind == wire.RUN_TIMES]
            return {task for learnt in told for task, kept, _ in learnt.tasks if kept}

        began = time.monotonic()
        for task in range(len(tasks)):
            submit(engine, f"task{task}", 1)
            await until(lambda task=task: task in known())  # type: ignore[misc]
        # Rates of the queue, which are rated once a second, are told in any case.
        assert time.monotonic() - began < len(tasks) * 0.5


async def test_the_guesses_of_the_first_jobs_are_told_while_they_run() -> None:
    async with engine_with(double, forever, workers=2) as engine, heard_of(engine) as heard:
        submit(engine, "forever")
        submit(engine, "double", 1)
        await until(lambda: engine.active.stats.last_end > 0)
        await asyncio.sleep(0.3)
        heard.clear()

        def aims() -> set[float]:
            told = [decode_runs(message) for kind, message in heard if kind == wire.RUN_TIMES]
            return {aim for learnt in told for _, _, aim in learnt.tasks}

        await until(lambda: len(aims()) > 2)


async def test_run_times_are_told_once_while_nothing_happens() -> None:
    async with engine_with(double, workers=1) as engine, heard_of(engine) as heard:
        await asyncio.sleep(0.3)
        heard.clear()
        submit(engine, "double", 1)
        await asyncio.sleep(1)
        # As it began and as it ended, if these were told apart.
        assert 1 <= [kind for kind, _ in heard].count(wire.RUN_TIMES) <= 2
