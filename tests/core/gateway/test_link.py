"""The connection between a gateway and its engine: frames of both sides, when there is more than the kernel takes."""

from __future__ import annotations

import asyncio
import socket

from headway.core.gateway.link import BUFFER_BYTES, EngineLink
from headway.core.gateway.wire import CALL, VALUE, frame

from tests.core.engines import until

LARGE = bytes(BUFFER_BYTES)


class End:
    """One end of a link, and how many frames have come there."""

    def __init__(self, *, is_engine: bool) -> None:
        self.came = 0
        self.link = EngineLink(self.take, int, waits=is_engine)

    async def connect(self, connected: socket.socket) -> None:
        """Be the end of a connected socket."""
        connected.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self.link, sock=connected)

    def take(self, kind: int, number: int, message: bytes) -> None:
        self.came += 1


class Answers(End):
    """An end that answers each frame with a large one."""

    def take(self, kind: int, number: int, message: bytes) -> None:
        super().take(kind, number, message)
        self.link.send(VALUE, number, LARGE)


async def test_both_sides_may_send_more_than_the_kernel_takes_at_once() -> None:
    engine, gateway = End(is_engine=True), End(is_engine=False)
    for end, connected in zip((engine, gateway), socket.socketpair(), strict=True):
        await end.connect(connected)
    try:
        for number in range(5):
            engine.link.send(VALUE, number, LARGE)
            gateway.link.send(CALL, number, LARGE)
        await until(lambda: (engine.came, gateway.came) == (5, 5))
    finally:
        engine.link.close()
        gateway.link.close()
        await until(lambda: not (engine.link.is_open or gateway.link.is_open))
        await asyncio.sleep(0)


async def test_calls_that_have_come_wait_while_the_gateway_takes_no_answers() -> None:
    """Else the answers to all of one read gather in memory: thousands, of megabytes each."""
    calls = 200
    engine = Answers(is_engine=True)
    ours, theirs = socket.socketpair()
    await engine.connect(ours)
    try:
        theirs.setblocking(True)
        theirs.sendall(b"".join(frame(CALL, number) for number in range(calls)))
        await until(lambda: engine.came > 0)
        # It had time for more.
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert engine.came < calls / 2
        theirs.setblocking(False)
        gateway = End(is_engine=False)
        await gateway.connect(theirs)
        await until(lambda: gateway.came == calls)
        gateway.link.close()
    finally:
        engine.link.close()
        await until(lambda: not engine.link.is_open)
        await asyncio.sleep(0)
