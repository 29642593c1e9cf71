"""A way through the network to a store, that can be slow, parted or cut. It has a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

HOST = "127.0.0.1"


class Side(asyncio.Protocol):
    """One of the two connections of a client with the store by ``way``."""

    def __init__(self, way: Way, replies: bool) -> None:
        self.way = way
        # Whether replies come in here.
        self.replies = replies
        self.other: Side | None = None
        self.transport: asyncio.Transport | None = None
        # What came in, with the time at which it is there. Empty bytes are the end.
        self._pieces: deque[tuple[float, bytes]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.way.sides.add(self)
        if not self.replies:
            self.way.lead_on(self)

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self.way.bytes_a_second and self.transport:
            self.transport.pause_reading()
            loop.call_later(len(data) / self.way.bytes_a_second, self._read_on)
        self._pieces.append((loop.time() + self.way.delay_s, data))
        loop.call_later(self.way.delay_s, self.hand_on)

    def _read_on(self) -> None:
        if self.transport and not self.transport.is_closing():
            self.transport.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        self.way.sides.discard(self)
        self._pieces.append((0.0, b""))
        self.hand_on()

    def hand_on(self) -> None:
        """Send on what is due, if the way is open."""
        other = self.other and self.other.transport
        while self._pieces and not self.way.parted and not self.way.ending and other:
            due, data = self._pieces[0]
            if due > asyncio.get_running_loop().time() + 0.001:
                return
            self._pieces.popleft()
            if not data:
                other.close()
            else:
                other.write(self.way.pass_on(data) if self.replies else data)


class Way:
    """Between nodes and a store on ``port``. All calls are for any thread, and hold from their return on."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.sides: set[Side] = set()
        self.parted = False
        # The last reply that may pass has passed.
        self.ending = False
        self.delay_s = 0.0
        # Of each direction. Without a bound it is zero.
        self.bytes_a_second = 0
        # Connections made by clients, ever.
        self.made = 0
        self._to = port
        # Bytes of replies that still pass before all is cut; below zero there is no end.
        self._left = -1
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener: asyncio.Server | None = None
        self._leading: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The URL of the store's first database by this way."""
        return f"valkey://{HOST}:{self.port}/0"

    def part(self) -> None:
        """Let nothing pass, as a broken network does: connections stay, and what is sent waits."""

        def part() -> None:
            self.parted = True

        self._do(part)

    def heal(self) -> None:
        """Let all pass again."""

        def heal() -> None:
            self.parted = False
            for side in [*self.sides]:
                side.hand_on()

        self._do(heal)

    def delay(self, seconds: float) -> None:
        """Have each piece take so long, in each direction."""

        def delay() -> None:
            self.delay_s = seconds

        self._do(delay)

    def limit(self, bytes_a_second: int) -> None:
        """Let so much pass in a second, in each direction of each connection."""

        def limit() -> None:
            self.bytes_a_second = bytes_a_second

        self._do(limit)

    def cut(self) -> None:
        """End all connections by a reset. New ones are taken."""
        self._do(self._cut)

    def cut_after(self, count: int) -> None:
        """End all connections once so many more bytes of replies have passed: in the middle of one."""

        def cut_after() -> None:
            self._left = count

        self._do(cut_after)

    def pass_on(self, data: bytes) -> bytes:
        """Return the part of a reply that passes."""
        if self._left < 0:
            return data
        data, self._left = data[: self._left], self._left - len(data)
        if self._left <= 0:
            self._left = -1
            self.ending = True
            # In a moment, so that what has passed arrives.
            self._loop.call_later(0.02, self._cut)
        return data

    def lead_on(self, side: Side) -> None:
        """Connect the store with a client that has come."""
        self.made += 1
        task = self._loop.create_task(self._lead_on(side))
        self._leading.add(task)
        task.add_done_callback(self._leading.discard)

    async def _lead_on(self, side: Side) -> None:
        there = Side(self, True)
        there.other, side.other = side, there
        try:
            await self._loop.create_connection(lambda: there, HOST, self._to)
        except OSError:
            assert side.transport
            side.transport.abort()
        else:
            side.hand_on()

    def _cut(self) -> None:
        for side in self.sides:
            if side.transport:
                side.transport.abort()
        self.ending = False

    def _do(self, what: Callable[[], object]) -> None:
        async def do() -> None:
            what()

        asyncio.run_coroutine_threadsafe(do(), self._loop).result(10)

    def begin(self) -> None:
        """Listen."""

        async def listen() -> None:
            self._listener = await self._loop.create_server(lambda: Side(self, False), HOST, 0)
            self.port = self._listener.sockets[0].getsockname()[1]

        self._thread.start()
        asyncio.run_coroutine_threadsafe(listen(), self._loop).result(10)

    def end(self) -> None:
        """End all connections and listen no more."""

        async def close() -> None:
            assert self._listener
            self._listener.close()
            self._cut()
            await asyncio.gather(*self._leading)
            self._cut()
            await asyncio.sleep(0.01)

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def way_to(port: int) -> Iterator[Way]:
    """Open a way to the store on ``port``."""
    way = Way(port)
    way.begin()
    try:
        yield way
    finally:
        way.end()
