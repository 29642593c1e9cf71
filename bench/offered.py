"""Load on a schedule, whether the server keeps up or not: submissions at a rate, and a crowd that polls.

A closed loop of clients slows down with its server, and hides how long others would have waited. Here each request has
a moment at which it is due, and its time runs from that moment, also while no connection is free for it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import quantiles

from bench.measure import HOST

# Seconds between two looks at what is due.
LOOK_S = 0.001
# Seconds between two polls of a client that is not told when to come.
POLL_S = 1.0
# Connections that are made at once.
CONNECT_MOST = 200
_RETRY_AFTER_MS = re.compile(rb"\r\nRetry-After-Ms: (\d+)\r\n")
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")
_LOCATION = re.compile(rb"\r\nLocation: (\S+)\r\n")
# The code of a request whose connection ended without an answer.
LOST = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: when it was due, of time.monotonic, its code, and how long after that its answer was there."""

    due: float
    code: int
    took_s: float


class Connection(asyncio.Protocol):
    """One request at a time. ``done`` gets the code and the head of its answer."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._done: Callable[[int, bytes], None] | None = None
        self._is_head = False
        self._come = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, which of uvloop is no asyncio.Transport by class."""
        self.transport = transport  # type: ignore[assignment]

    def ask(self, sent: bytes, done: Callable[[int, bytes], None]) -> None:
        """Send a request."""
        self._done, self._is_head = done, sent.startswith(b"HEAD ")
        if self.transport is None or self.transport.is_closing():
            self._tell(LOST, b"")
        else:
            self.transport.write(sent)

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer."""
        self._come += data
        end = self._come.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = self._come[:end]
        length = None if self._is_head else _LENGTH.search(head)
        if len(self._come) >= end + (0 if length is None else int(length[1])):
            self._come = b""
            self._tell(int(head[9:12]), head)

    def connection_lost(self, _: Exception | None) -> None:
        """The request has no answer."""
        self.transport = None
        self._tell(LOST, b"")

    def close(self) -> None:
        """End the connection, without a word."""
        self._done = None
        if self.transport is not None:
            self.transport.abort()

    def _tell(self, code: int, head: bytes) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(code, head)


async def connected(port: int, count: int) -> list[Connection]:
    """Make connections, some at a time."""
    loop = asyncio.get_running_loop()
    made: list[Connection] = []
    while len(made) < count:
        some = min(CONNECT_MOST, count - len(made))
        pairs = await asyncio.gather(*(loop.create_connection(Connection, HOST, port) for _ in range(some)))
        made += [connection for _, connection in pairs]
    return made


class Submitters:
    """Clients that submit on a schedule. ``accepted`` has the path of the last job."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections
        self._free = list(connections)
        # Requests that are due, and for which no connection is free.
        self._late: deque[float] = deque()
        self._answered: list[Answered] = []
        self._sent = b""
        self.accepted: deque[bytes] = deque(maxlen=1)
        # How late this loop itself was, in seconds.
        self.own_lag_s: list[float] = []

    async def offer(self, sent: bytes, rate: float, seconds: float) -> list[Answered]:
        """Send ``rate`` requests a second for so long. Return all, once they are answered."""
        self._sent, self._answered = sent, []
        began, count = time.monotonic(), 0
        while (now := time.monotonic()) < began + seconds:
            while began + count / rate <= now:
                self._begin(began + count / rate)
                count += 1
            await asyncio.sleep(LOOK_S)
            self.own_lag_s.append(time.monotonic() - now - LOOK_S)
        while len(self._answered) < count:  # noqa: ASYNC110 — once, at the end
            await asyncio.sleep(LOOK_S)
        return self._answered

    def _begin(self, due: float) -> None:
        if self._free:
            self._ask(self._free.pop(), due)
        else:
            self._late.append(due)

    def _ask(self, connection: Connection, due: float) -> None:
        connection.ask(self._sent, lambda code, head: self._take(connection, due, code, head))

    def _take(self, connection: Connection, due: float, code: int, head: bytes) -> None:
        self._answered.append(Answered(due, code, time.monotonic() - due))
        if code == 202 and (path := _LOCATION.search(head)):
            self.accepted.append(path[1])
        if code != LOST and self._late:
            self._ask(connection, self._late.popleft())
        elif code != LOST:
            self._free.append(connection)

    def close(self) -> None:
        """End all connections."""
        for connection in self._connections:
            connection.close()


@dataclass
class Crowd:
    """Clients that look at a job each second, or as much later as the server asks."""

    connections: Sequence[Connection]
    # Its last is the path of the job to look at next.
    jobs: deque[bytes]
    polls: int = 0
    # Answers other than those about a job.
    errors: dict[int, int] = field(default_factory=dict)
    took_s: list[float] = field(default_factory=list)
    _ends: bool = False

    def begin(self, spread_s: float) -> None:
        """Have all of them come, spread over some time."""
        loop = asyncio.get_running_loop()
        for at, connection in enumerate(self.connections):
            loop.call_later(spread_s * at / len(self.connections), self._poll, connection, b"")

    def begin_counting(self) -> None:
        """Forget what was counted."""
        self.polls, self.errors, self.took_s = 0, {}, []

    def _poll(self, connection: Connection, path: bytes) -> None:
        if self._ends:
            return
        # One that has no job yet, or whose job has finished, takes the last.
        path = path or self.jobs[-1]
        sent_at = time.monotonic()
        self.polls += 1
        connection.ask(
            b"HEAD %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path,
            lambda code, head: self._take(connection, path, sent_at, code, head),
        )

    def _take(self, connection: Connection, path: bytes, sent_at: float, code: int, head: bytes) -> None:
        self.took_s.append(time.monotonic() - sent_at)
        if code not in {200, 202, 410}:
            self.errors[code] = self.errors.get(code, 0) + 1
        if code == LOST:
            return
        told = _RETRY_AFTER_MS.search(head)
        wait_s = POLL_S if told is None else max(POLL_S, int(told[1]) / 1000)
        asyncio.get_running_loop().call_later(wait_s, self._poll, connection, path if code == 202 else b"")

    def close(self) -> None:
        """End all connections."""
        self._ends = True
        for connection in self.connections:
            connection.close()


def p99_ms(took_s: Sequence[float]) -> float:
    """Return the 99th percentile, in ms. 0 for none."""
    return quantiles(took_s, n=100)[98] * 1000 if len(took_s) > 1 else sum(took_s) * 1000
