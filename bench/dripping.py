"""Clients that send the head of a request byte by byte, one a second, and come back: ``python -m bench.dripping``."""

from __future__ import annotations

import argparse
import asyncio
import sys

import uvloop

from bench.measure import HOST, allow_files

BEGIN = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "


class Dripping(asyncio.Protocol):
    """One connection. It ends when the server has had enough."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()

    def connection_lost(self, _: Exception | None) -> None:
        """The server has ended it."""
        if not self.ended.done():
            self.ended.set_result(None)


async def drip(port: int, delay_s: float) -> None:
    """Connect, drip until the end, and connect again, for ever."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(delay_s)
    while True:
        transport, client = await loop.create_connection(Dripping, HOST, port)
        transport.write(BEGIN)
        while not client.ended.done():
            await asyncio.wait([client.ended], timeout=1.0)
            if not transport.is_closing():
                transport.write(b"x")


async def main(port: int, count: int) -> None:
    """Drip on ``count`` connections, which come within a second."""
    await asyncio.gather(*(drip(port, at / count) for at in range(count)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.dripping", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    allow_files(options.count)
    sys.exit(uvloop.run(main(options.port, options.count)))
