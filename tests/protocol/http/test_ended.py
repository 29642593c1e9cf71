"""A connection that has ended leaves nothing behind for the garbage collector, which looks seldom."""

from __future__ import annotations

import asyncio
import gc
from math import inf

import pytest
import uvloop
from headway.core.config import Config
from headway.core.recovering import Recovering
from headway.protocol.api.app import Api
from headway.protocol.http.connection import Connection
from headway.protocol.http.request import Request

from tests.protocol.wire import post, request, submission

HEAD, POST = request("HEAD", "/jobs/" + "0" * 36), post(submission("give", 1))
CASES = {
    "nothing sent": b"",
    "half a request": POST[:-1],
    "two requests": request("GET", "/healthz") * 2,
    "an invalid request": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "an unknown route": request("GET", "/nowhere"),
    "an upgrade": request("GET", "/healthz", "Connection: Upgrade", "Upgrade: h2c"),
}


def ours() -> int:
    """Count the connections and requests that there are."""
    return sum(isinstance(one, Connection | Request) for one in gc.get_objects())


def end_lingering(api: Api) -> None:
    """Let the time be over in which clients may end their side."""
    for member in list(api.connections.lingering):
        member.overdue(inf)


async def serve(pieces: list[bytes]) -> int:
    """Send ``pieces`` on a connection of their own, one after the other; return how many objects are left of it."""
    api = Api(Config(), Recovering(Config()))
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Connection(api.connections), "127.0.0.1", 0) as server:
        before = ours()
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for piece in pieces:
                writer.write(piece)
                # So that each is read alone, as a head that is known has to be.
                await asyncio.sleep(0.02)
            writer.write_eof()
            await reader.read()
            writer.transport.abort()
        while api.connections.open or api.connections.lingering:
            end_lingering(api)
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        return ours() - before


# Half a second of the collector each.
@pytest.mark.parametrize(
    "pieces",
    [
        *(pytest.param([data], id=name, marks=pytest.mark.long) for name, data in CASES.items()),
        pytest.param([HEAD] * 3, id="known HEADs"),
        pytest.param([POST] * 3, id="known POSTs", marks=pytest.mark.long),
    ],
)
def test_nothing_is_left_of_a_connection(pieces: list[bytes]) -> None:
    gc.collect()
    gc.disable()
    try:
        assert uvloop.run(asyncio.wait_for(serve(pieces), 20)) == 0
    finally:
        gc.enable()
