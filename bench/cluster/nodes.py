"""Headway on Valkey: nodes on one store, and submitters that speak HTTP to them in turn."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from bench.measure import HOST, ROOT, BenchError
from bench.process import Process, free_port, running
from bench.queues.interface import Queue

# Of no bench: nothing is refused, and nothing that is over is dropped.
MOST = 1_000_000
OCCUPIED_S = 600
READY_S = 20.0
END = b"\r\n\r\n"


@contextlib.contextmanager
def running_nodes(
    count: int, store: int, workers: int, settings: Mapping[str, str] | None = None
) -> Iterator[list[Process]]:
    """Start so many nodes with ``workers`` each, on the Valkey at port ``store``; ``settings`` as in variables."""
    given = {f"HEADWAY_{name}": value for name, value in (settings or {}).items()}
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(running(_node(number, store, workers, given))) for number in range(count)]
        for node in started:
            _wait_until_ready(node)
        yield started


def _wait_until_ready(node: Process) -> None:
    """Return once it is at work; it listens before."""
    deadline = time.monotonic() + READY_S
    said = b"nothing"
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((HOST, node.port), READY_S) as client:
            client.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            said = client.recv(4096)
        if said.startswith(b"HTTP/1.1 200"):
            return
        node.check(0.05)
    raise BenchError(f"{node.name} is not ready after {READY_S:g} s: {said.rpartition(END)[2]!r}")


def _node(number: int, store: int, workers: int, settings: Mapping[str, str]) -> Process:
    port = free_port()
    environment = {
        "HEADWAY_SERVER__PORT": str(port),
        "HEADWAY_ENGINE": f"valkey://{HOST}:{store}/0",
        "HEADWAY_WORKERS": str(workers),
        "HEADWAY_QUEUE__SIZE": str(MOST),
        "HEADWAY_RETENTION__JOBS": str(MOST),
        "HEADWAY_RETENTION__SECONDS": "86400",
        "HEADWAY_LIMITS__CONNECTIONS": "5000",
        "HEADWAY_LOG__LEVEL": "warning",
        "HEADWAY_DRAIN_TIMEOUT": "0.1",
        "HEADWAY_DRAIN_LINGER": "0",
        "HEADWAY_TASKS": "[bench.queues.headway_queue, examples.tasks]",
        "PYTHONPATH": str(ROOT),
        **settings,
    }
    return Process(f"node {number + 1}", [sys.executable, "-m", "headway", "serve"], port, env=environment)


class Line(asyncio.Protocol):
    """A connection, with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # That of uvloop is no asyncio.Transport by class.
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        """Send a request, and return its answer when that has come: its head, and the content of a refusal."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Give the answer to who asked, once it is whole."""
        self._data = data = self._data + data
        if self._is_whole(data) and self._answer is not None and not self._answer.done():
            self._data = b""
            self._answer.set_result(data)

    @staticmethod
    def _is_whole(data: bytes) -> bool:
        """Whether an answer is there: a head, but for a refusal of a POST, which tells its length."""
        if data[9:10] == b"2":
            return data.endswith(END)
        head, end, body = data.partition(END)
        length = re.search(rb"Content-Length: (\d+)", head)
        return bool(end) and (length is None or len(body) >= int(length[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who asked."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BenchError("a node closed the connection"))

    def close(self) -> None:
        """Disconnect."""
        if self._transport is not None:
            self._transport.close()


class Adapter(Queue[bytes]):
    """``POST /jobs`` to one node, and ``HEAD`` to the next."""

    def __init__(self, nodes: Sequence[Process], lines: int) -> None:
        self.workers = f"{len(nodes)} node(s)"  # type: ignore[misc]
        self._nodes = nodes
        self._count = lines
        # Those that nobody uses just now, of all nodes in turn.
        self._free: deque[Line] = deque()

    async def open(self) -> None:
        """Connect, from each submitter to one node."""
        loop = asyncio.get_running_loop()
        for number in range(self._count):
            port = self._nodes[number % len(self._nodes)].port
            _, line = await loop.create_connection(Line, HOST, port)
            self._free.append(line)

    async def enqueue(self, task: str, sent: float) -> bytes:
        """``POST /jobs``."""
        return await self.post(b'{"task":"bench-%b","payload":%r}' % (task.encode(), sent))

    async def post(self, body: bytes) -> bytes:
        """Submit a job and return its path."""
        path = await self.try_post(body)
        if not path:
            raise BenchError("POST was answered with 429")
        return path

    async def try_post(self, body: bytes) -> bytes:
        """Submit a job and return its path; empty where the queue is full."""
        answer = await self.ask(
            b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nPrefer: return=minimal\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        if answer[9:12] == b"429":
            return b""
        if answer[9:12] != b"202":
            raise BenchError(f"POST was answered with {answer[:12]!r}: {answer.rpartition(END)[2]!r}")
        begin = answer.index(b"Location: ") + 10
        return answer[begin : answer.index(b"\r", begin)]

    async def is_over(self, handle: bytes) -> bool:
        """``HEAD /jobs/{id}``."""
        return await self.state(handle) == b"200"

    async def state(self, path: bytes) -> bytes:
        """Return the code of ``HEAD``."""
        answer = await self.ask(b"HEAD %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        if answer[9:12] not in (b"200", b"202"):
            raise BenchError(f"HEAD was answered with {answer[:60]!r}")
        return answer[9:12]

    async def ask(self, request: bytes) -> bytes:
        """Send a request on a connection that is free."""
        line = self._free.popleft()
        try:
            return await line.ask(request)
        finally:
            self._free.append(line)

    async def occupy(self) -> None:
        """Give each node's only worker a job that does not end."""
        for _ in self._nodes:
            await self.post(b'{"task":"sleep","payload":{"seconds":%d},"timeout":%d}' % (OCCUPIED_S, OCCUPIED_S))
        await asyncio.sleep(1)

    async def close(self) -> None:
        """Disconnect."""
        for line in self._free:
            line.close()
