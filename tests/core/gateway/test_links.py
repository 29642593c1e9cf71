"""The engine's end of all links, before a deploy."""

from __future__ import annotations

import asyncio
import socket

from headway.core.gateway import wire
from headway.core.gateway.link import BUFFER_BYTES
from headway.core.gateway.links import GatewayLinks
from headway.core.gateway.showing import Showing
from headway.core.gateway.standing import Standing
from headway.core.local.engine import LocalEngine
from headway.core.tasks.registry import Options, Registry

from tests.core.engines import double, settings, until


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
