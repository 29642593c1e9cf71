"""A server in this process, on a real port, that ends in every way and starts again with other settings.

``Lives`` is one journal, or a memory without one, and the servers that have it one after the other. Tests send bytes
and read bytes: no call below the protocol is made here but those of a start and an end. A kill is what the kernel makes
of it: the writer is stopped in mid-step, the files are copied as they are, and the next life begins on the copy. So any
moment can be chosen, and no Python is started for the server itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, cast
from unittest.mock import patch

import msgspec
import pytest
from headway.core.config import Config
from headway.core.handover import Handover
from headway.core.local.engine import LocalEngine
from headway.core.open import open_local
from headway.core.tasks.registry import Options, Registry
from headway.protocol.api.app import Api
from headway.protocol.http.connection import Connection

from tests.protocol.wire import Answer, parse_head, post, request, submission

Task = Callable[..., Any] | tuple[Callable[..., Any], Options]
PATIENCE_S = 20.0
OVER = ("succeeded", "failed", "cancelled", "expired")
LOOK_S = 0.002
SMALL: dict[str, Any] = {"workers": 2, "jobs": {"backoff": 0.01, "backoff_max": 0.02}, "drain_timeout": 5.0}

LINUX = "a kill is made of /proc and SIGSTOP"
linux = pytest.mark.skipif(sys.platform != "linux", reason=LINUX)


class Gates:
    """What tasks wait for: each payload has a gate of its own, that the test opens with a result or an error."""

    def __init__(self) -> None:
        self._gates: dict[object, asyncio.Future[object]] = {}

    def gate(self, name: object) -> asyncio.Future[object]:
        """Return the gate of ``name``, which is made where there is none or it was used."""
        gate = self._gates.get(name)
        if gate is None or gate.done():
            gate = self._gates[name] = asyncio.get_running_loop().create_future()
        return gate

    async def hold(self, payload: object) -> object:
        """Wait until the gate of the payload opens: the task that tests hold in their hands."""
        # Of two jobs with one payload, the end of one leaves the gate to the other.
        return await asyncio.shield(self.gate(payload))

    def is_held(self, name: object) -> bool:
        """Whether a job with this payload has begun and waits."""
        return name in self._gates and not self._gates[name].done()

    def open(self, name: object, result: object = None) -> None:
        """Let the job with this payload return ``result``, or raise it where it is an error."""
        gate = self.gate(name)
        if isinstance(result, BaseException):
            gate.set_exception(result)
        else:
            gate.set_result(result)

    def forget(self) -> None:
        """Forget all gates: their tasks went with the life that is over."""
        self._gates.clear()


async def echo(payload: object) -> object:
    """Return the payload."""
    return payload


async def fail(payload: object) -> None:
    """Fail with the payload."""
    raise ValueError(str(payload))


class Client:
    """One connection of a test that runs on the server's own loop."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, data: bytes) -> Answer:
        """Send one request and read its answer."""
        await self.send(data)
        return await self.read(data.partition(b" ")[0].decode())

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(data)
        await self._writer.drain()

    async def read(self, method: str = "GET") -> Answer:
        """Read one answer, to a request with ``method``."""
        assert self._reader is not None
        async with asyncio.timeout(PATIENCE_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            status, headers = parse_head(head[:-4])
            bodiless = method == "HEAD" or status in {204, 304}
            body = b"" if bodiless else await self._reader.readexactly(int(headers["content-length"]))
        return Answer(status, headers, body, head + body)

    def close(self) -> None:
        """Disconnect."""
        if self._writer is not None:
            self._writer.transport.abort()


class Clock:
    """What ``time.time`` says, set forwards and backwards by ``shift`` seconds."""

    def __init__(self) -> None:
        self.shift = 0.0
        self._real = time.time

    def read(self) -> float:
        """Return what a clock on the wall says."""
        return self._real() + self.shift


@contextmanager
def clock_that_is_set() -> Iterator[Clock]:
    """Let the test set the clock of this process."""
    clock = Clock()
    with patch("time.time", clock.read):
        yield clock


class Lives:
    """The servers that have ``folder`` one after the other; ``tasks`` are those that each of them has.

    Without ``journal`` jobs are in memory, and only a ``deploy`` leads from one life to the next.
    """

    # Those of which a life has begun and not ended.
    begun: ClassVar[list[Lives]] = []

    def __init__(self, folder: Path, tasks: Sequence[Task] = (), journal: bool = True) -> None:
        self._folder = folder
        self._tasks: Sequence[Task] = (echo, fail, *tasks)
        self._journal = journal
        self._lives = 0
        self._clients: list[Client] = []
        self.path = folder / "journal.db"
        # Lines with which a journal said that it cannot be written.
        self.fatal: list[str] = []
        self.engine: LocalEngine
        self.port = 0

    async def start(self, **settings: Any) -> Client:
        """Begin the next life with ``settings``, sections as dicts; return a client."""
        return await self._serve(settings, None)

    async def _serve(self, settings: dict[str, Any], before: Handover | None) -> Client:
        path = str(self.path) if self._journal else None
        journal = {"journal": {"path": path} | settings.pop("journal", {})}
        self.config = msgspec.convert(SMALL | journal | settings, Config)
        registry = Registry()
        for task in self._tasks:
            function, options = task if isinstance(task, tuple) else (task, Options())
            registry.add(function, options)
        self.engine = open_local(self.config, registry, lambda _: None, before)
        await self.engine.start(self.fatal.append)
        self.connections = Api(self.config, self.engine).connections
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self.connections), "127.0.0.1", 0)
        self.begun.append(self)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.client()

    def client(self) -> Client:
        """Return one more client."""
        self._clients.append(Client(self.port))
        return self._clients[-1]

    async def ask(self, data: bytes) -> Answer:
        """Send one request on a connection that stays, and read its answer."""
        return await self._clients[0].ask(data)

    async def submit(self, task: str, payload: object = None, **members: Any) -> str:
        """Submit a job and return its path."""
        answer = await self.ask(post(submission(task, payload, **members)))
        assert answer.status == 202, answer
        return answer["location"]

    async def run(self, task: str, payload: object = None, **members: Any) -> str:
        """Submit a job, wait until it is over, and return its path."""
        path = await self.submit(task, payload, **members)
        await self.wait_for(path, *OVER)
        return path

    async def wait_for(self, path: str, *states: str) -> Answer:
        """Ask until the job is in one of ``states``."""
        async with asyncio.timeout(PATIENCE_S):
            while (said := await self.ask(request("HEAD", path)))["job-state"] not in states:  # noqa: ASYNC110 — as clients
                await asyncio.sleep(LOOK_S)
        return said

    async def end(self, timeout_s: float = 0.0) -> None:
        """End this life as SIGTERM does: jobs that run are waited for up to ``timeout_s`` seconds."""
        await self.engine.drain(timeout_s)
        await self._leave()
        await self.engine.close()

    async def abandon(self) -> None:
        """End a life that a test which failed has left behind."""
        for pid in self.writers():
            os.kill(pid, signal.SIGCONT)
        with suppress(Exception):
            async with asyncio.timeout(5):
                await self.end()

    async def _leave(self) -> None:
        self.begun.remove(self)
        for client in self._clients:
            client.close()
        self._clients.clear()
        self._server.close()
        await self.connections.close()
        # Those that a client has left with something to be sent; a process would end with them.
        for connection in (*self.connections.open, *self.connections.lingering):
            cast(Connection, connection).transport.abort()
        await asyncio.sleep(0)
        await self.engine.stop()

    async def kill(self) -> None:
        """End this life as SIGKILL of server and writer at this very moment does."""
        before = self._copy()
        # What is left of this life goes on with files of which the next life knows nothing.
        await self._leave()
        await self.engine.close()
        self.path = before

    async def kill_at_the_end(self) -> None:
        """End cleanly with a writer that stops by itself on the way, and leave it as a kill at that moment does."""
        await self.engine.drain(0.0)
        await self._leave()
        closing = asyncio.create_task(self.engine.close())
        await self.until_the_writer_stops()
        before = self._copy()
        await closing
        self.path = before

    async def until_the_writer_stops(self) -> None:
        """Wait for a writer that stops by itself."""
        async with asyncio.timeout(PATIENCE_S):
            while not any(map(is_stopped, self.writers())):  # noqa: ASYNC110 — another process
                await asyncio.sleep(LOOK_S)

    def _copy(self) -> Path:
        """Copy the journal as it is, its writer stopped; return where the copy is."""
        if sys.platform != "linux":
            pytest.skip(LINUX)
        with stopped(self.writers()):
            self._lives += 1
            folder = self._folder / f"life-{self._lives}"
            copy(self.path, folder)
        return folder / self.path.name

    async def deploy(self, **settings: Any) -> Client:
        """End this life as SIGHUP does, and begin the next one with ``settings``; without a journal."""
        assert await self.engine.drain(PATIENCE_S) == 0
        await self._leave()
        file = BytesIO()
        rows = self.engine.hand_over(file)
        assert rows is not None
        file.seek(0)
        return await self._serve(settings, Handover(file, os.dup(rows)))

    def writers(self) -> list[int]:
        """The processes of ours that write the journal."""
        return [pid for pid in children() if str(self.path) in command_of(pid)]


def copy(path: Path, folder: Path) -> None:
    """Copy what a kill leaves of the journal at ``path``: its files but the shared memory."""
    folder.mkdir()
    files = [str(file) for file in path.parent.glob(f"{path.name}*") if file.is_file()]
    if files := [file for file in files if not file.endswith("-shm")]:
        # Not by ourselves: closing a file gives up the locks that SQLite holds on it for this process.
        subprocess.run(["cp", *files, str(folder)], check=True)


def children() -> list[int]:
    """The processes that this one has started and not reaped."""
    found = Path("/proc/self/task").glob("*/children")
    return [int(pid) for tasks in found for pid in tasks.read_text().split()]


def command_of(pid: int) -> str:
    """The command line of a process, empty where it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, by SIGSTOP or by itself."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"


def stop(*pids: int) -> None:
    """Stop processes in whatever they do, until SIGCONT."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE_S
    while not all(map(is_stopped, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.0005)


@contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """Stop processes in whatever they do, for as long as the block lasts."""
    stop(*pids)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def run(
    test: Coroutine[Any, Any, None],
    seconds: float = 60.0,
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run a test on a loop of its own, asyncio's or what ``loop`` makes; a life that it has left behind is ended."""

    async def bounded() -> None:
        try:
            async with asyncio.timeout(seconds):
                await test
        finally:
            for left in list(Lives.begun):
                await left.abandon()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(bounded())
