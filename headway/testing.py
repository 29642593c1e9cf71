"""Tests of tasks: a server in the test's own process, and runs of one task alone.

``Server`` has the real routes and no socket. Its clock moves only when the test says so. ``run``
calls a task as an attempt does: the payload is checked and decoded, and the result encoded.

Importing this module changes nothing. While a ``Server`` is open, ``time.monotonic`` and
``time.time`` tell the time of its clock. Tasks with ``run_in="process"`` run in a thread.
"""

from __future__ import annotations

import asyncio
import json as json_of_python
import selectors
import time
from collections.abc import Callable, Mapping
from math import inf
from types import TracebackType
from typing import Any, NoReturn, cast

import msgspec
from httptools import HttpResponseParser

from headway.core.body import Body
from headway.core.config import Config
from headway.core.errors import ConfigError
from headway.core.local.engine import LocalEngine
from headway.core.task import Lane, Task
from headway.core.tasks import payloads
from headway.core.tasks.context import Context
from headway.core.tasks.registry import REGISTRY, Options, Registry, load
from headway.core.tasks.result import Result, encode
from headway.protocol.api.app import Api
from headway.protocol.http.connection import Connection
from headway.protocol.http.connections import TICK_S

__all__ = ["Response", "Server", "context", "run"]

# Seconds of real time for which the loop waits for the files of a task that waits for others.
PATIENCE_S = 0.2
RESULT_BYTES = Config().results.max_result_bytes
PEER = ("127.0.0.1", 1)


class Response:
    """An answer: ``status``, ``headers`` by lower-case name, and ``body``."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.headers.get('job-state', '')}>"

    def json(self) -> Any:
        """Return the body, decoded."""
        return json_of_python.loads(self.body)


class Server:
    """A server without sockets, in memory: ``with headway.testing.Server("tasks") as server:``.

    ``modules`` are task modules to import. All tasks that are declared by then can be run.
    ``settings`` are those of config.yaml: ``Server("tasks", workers=1, jobs={"retries": 2})``.
    Raises ConfigError for a setting or a module that cannot be used.
    """

    def __init__(self, *modules: str, **settings: Any) -> None:
        load(modules)
        # A file of tokens in the current folder is for clients, and not for tests.
        for section, word, usual in (("journal", "path", None), ("auth", "mode", "none")):
            given = settings.get(section) or {}
            if section == "auth" and isinstance(given, str):
                given = {word: given}
            settings[section] = {word: usual} | given if isinstance(given, dict) else given
        try:
            self._config = msgspec.convert(settings, Config)
        except msgspec.ValidationError as error:
            raise ConfigError(f"settings of headway.testing.Server: {error}") from None
        if self._config.journal.path is not None:
            raise ConfigError("settings of headway.testing.Server: journal.path: jobs are kept in memory here")
        if self._config.engine is not None:
            raise ConfigError("settings of headway.testing.Server: engine: jobs are kept in memory here")
        self._clock = _Clock()
        self._open: _Loop | None = None

    @property
    def _loop(self) -> _Loop:
        if self._open is None:
            raise RuntimeError("the server is not open: with headway.testing.Server(...) as server:")
        return self._open

    def __enter__(self) -> Server:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("headway.testing.Server has a loop of its own: use it in a test that is no coroutine")
        if isinstance(getattr(time.monotonic, "__self__", None), _Clock):
            raise RuntimeError("a headway.testing.Server is open already: there is one at a time")
        self._clock.begin()
        self._open = _Loop(self._clock)
        try:
            self._loop.run_until_complete(self._start())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._loop.run_until_complete(self._engine.stop())
        self._end()

    def _call(self, function: Callable[[], object]) -> None:
        async def called() -> None:
            function()

        self._loop.run_until_complete(called())

    async def _start(self) -> None:
        self._engine = LocalEngine(self._config, _in_threads(REGISTRY))
        self._api = Api(self._config, self._engine)
        self._clock.workers = self._engine.active.workers
        await self._engine.start(_fail)
        self._tick()

    def _tick(self) -> None:
        self._api.connections.tick()
        self._loop.call_later(TICK_S, self._tick)

    def _end(self) -> None:
        self._loop.close()
        self._open = None
        self._clock.end()

    # Time.

    @property
    def now(self) -> float:
        """The seconds for which the server has run, by its clock."""
        return self._clock.now - self._clock.began

    def run_until_idle(self) -> None:
        """Run all that can be done at this time: jobs that are due, until they end or sleep.

        Threads are waited for. A coroutine that sleeps, a job with a delay and a retry wait for
        ``advance``.
        """
        self._loop.run_to(self._clock.now)

    def advance(self, seconds: float) -> None:
        """Move the clock, and do all that is due on the way at its time."""
        if not 0 <= seconds < inf:
            raise ValueError(f"advance({seconds!r}): the clock goes forwards, by a number of seconds")
        self.run_until_idle()
        self._loop.run_to(self._clock.now + seconds)

    # Requests.

    def request(
        self, method: str, path: str, *, json: Any = None, data: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> Response:
        """Send a request and return its answer. One with ``Prefer: wait`` moves the clock until it is known.

        ``json`` is content to encode, ``data`` content as it is. Of an event stream that stays open,
        the answer has the events that there are at this time.
        """
        lines = {"host": "localhost"} | {name.lower(): value for name, value in headers.items()}
        if json is not None:
            data = json_of_python.dumps(json).encode()
            lines.setdefault("content-type", "application/json")
        if data is not None or method in ("POST", "PUT", "PATCH"):
            lines["content-length"] = str(len(data or b""))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        transport = _Transport(self._loop, method)

        def send() -> None:
            connection = Connection(self._api.connections)
            connection.connection_made(transport)
            connection.data_received(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + (data or b""))
            transport.connection = connection

        self._call(send)
        self._loop.run_to(inf, lambda: transport.answer is not None or transport.streams)
        if transport.answer is None:
            self._loop.run_to(self._clock.now)
            transport.cut()
        assert transport.answer is not None
        answer = transport.answer
        self._call(lambda: transport.connection.connection_lost(None))
        return answer

    def head(self, path: str, **more: Any) -> Response:
        """Send a HEAD."""
        return self.request("HEAD", path, **more)

    def get(self, path: str, **more: Any) -> Response:
        """Send a GET."""
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> Response:
        """Send a POST."""
        return self.request("POST", path, **more)

    def delete(self, path: str, **more: Any) -> Response:
        """Send a DELETE."""
        return self.request("DELETE", path, **more)

    def patch(self, path: str, **more: Any) -> Response:
        """Send a PATCH."""
        return self.request("PATCH", path, **more)

    def submit(self, task: str, payload: Any = None, **members: Any) -> str:
        """Submit a job and return its path. Raises RuntimeError, with the detail, if it is refused."""
        answer = self.post("/jobs", json={"task": task, "payload": payload, **members})
        if answer.status != 202:
            raise RuntimeError(answer.json()["detail"])
        return answer.headers["location"]


class RecordedContext(Context):
    """A context that keeps the reports of its function.

    They are in ``percents`` and ``messages``, and the text of ``context.log("…")`` is in ``logged``.
    """

    __slots__ = ("_text", "messages", "percents")

    def __init__(self, job_id: str, attempt: int, state: Any = None) -> None:
        self.percents: list[int] = []
        self.messages: list[str] = []
        self._text = bytearray()
        super().__init__(job_id, attempt, self._keep, write=self._text.extend, state=state)

    @property
    def logged(self) -> str:
        """The log of the job."""
        return self._text.decode(errors="replace")

    def _keep(self, percent: int, message: str) -> None:
        self.percents.append(percent)
        self.messages.append(message)


def context(job_id: str = "0" * 36, attempt: int = 1, state: Any = None) -> RecordedContext:
    """Return a context for ``run``. ``state`` stands in for the value of the lifespan."""
    return RecordedContext(job_id, attempt, state)


def run(function: Callable[..., Any], payload: Any = None, context: Context | None = None) -> Any:
    """Run a task once, here and now, and return its value.

    ``payload`` goes through JSON, as a client's does, or is a Body. Raises InvalidPayloadError if it
    does not fit the task, ResultError if the value is no result, TaskError if the function can be
    no task, and the error of the function.
    """
    task = _task_of(function)
    if isinstance(payload, Body):
        value = payloads.decode_at_once(payload.data, task.payload_type, payload.media_type)
    else:
        value = payloads.decode_at_once(msgspec.json.encode(payload), task.payload_type)
    given = (value, context or RecordedContext("0" * 36, 1)) if task.takes_context else (value,)

    async def awaited(returned: Any) -> Any:
        return await returned

    returned = task.function(*given)
    if hasattr(returned, "__await__"):
        returned = asyncio.run(awaited(returned))
    if not isinstance(returned, Result):
        encode(returned, RESULT_BYTES)
    return returned


def _task_of(function: Callable[..., Any]) -> Task:
    for task in REGISTRY.tasks:
        if task.function is function:
            return task
    alone = Registry()
    alone.add(function, Options(name="task"))
    return alone.tasks[0]


def _in_threads(registry: Registry) -> Registry:
    """Return the same tasks, those of processes in threads."""
    copied = Registry()
    copied.tasks = [
        msgspec.structs.replace(task, lane=Lane.THREAD) if task.lane is Lane.PROCESS else task
        for task in registry.tasks
    ]
    copied.arounds, copied.lifespan = registry.arounds, registry.lifespan
    copied.by_name = {task.name: task for task in copied.tasks}
    return copied


def _fail(line: str) -> NoReturn:
    raise RuntimeError(line)


class _Clock(selectors.SelectSelector):
    """Waits for files in real time, and for timers by moving its time, up to ``until``."""

    def __init__(self) -> None:
        super().__init__()
        self.workers: Any = None
        self.until = inf
        self.idle: Callable[[], object] = int

    def begin(self) -> None:
        """Tell the time from now on."""
        self._monotonic, self._time = time.monotonic, time.time
        self.began = self.now = self._monotonic()
        wall = self._time() - self.now
        time.monotonic = self._read
        time.time = lambda: self.now + wall

    def end(self) -> None:
        """Tell the time no more."""
        time.monotonic, time.time = self._monotonic, self._time

    def _read(self) -> float:
        return self.now

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the files that are ready. If there is nothing more to do up to ``until``, be idle."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self._threads():
            return super().select(None)
        if self.workers is not None and self.workers.attempts and len(self.get_map()) > 1:
            ready = super().select(PATIENCE_S)
            if ready:
                return ready
        if timeout is not None and self.now + timeout <= self.until:
            # Never less than a float can tell apart.
            self.now += max(timeout, 1e-6)
            return []
        if self.until < inf:
            self.now = max(self.now, self.until)
        self.idle()
        return []

    def _threads(self) -> bool:
        """Whether a function runs in a thread, which ends in real time."""
        if self.workers is None:
            return False
        return any(attempt.call is not None and attempt.call.runs for attempt in self.workers.attempts)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop by a clock."""

    def __init__(self, clock: _Clock) -> None:
        self.clock = clock
        super().__init__(clock)

    def time(self) -> float:
        """Return the time of the clock."""
        return self.clock.now

    def run_to(self, until: float, done: Callable[[], bool] | None = None) -> None:
        """Run until there is nothing to do before ``until``, or ``done`` says so."""
        self.clock.until, self.clock.idle = until, self.stop
        try:
            while done is None or not done():
                self.run_forever()
                if done is None:
                    return
        finally:
            self.clock.until, self.clock.idle = inf, int


class _Transport(asyncio.Transport):
    """The bytes of one answer."""

    connection: Connection

    def __init__(self, loop: _Loop, method: str) -> None:
        super().__init__({"peername": PEER})
        self._loop = loop
        self._is_head = method == "HEAD"
        self._parser = HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = b""
        self.answer: Response | None = None
        # Whether the answer is an event stream, which may have no end.
        self.streams = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser has a header line."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The parser has the head."""
        if self._is_head:
            self._complete()
        elif self._headers.get("content-type", "").startswith("text/event-stream"):
            self.streams = True
            self._loop.stop()

    def on_body(self, body: bytes) -> None:
        """The parser has some of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """The parser has all."""
        self._complete()

    def cut(self) -> None:
        """Take what has come for all of the answer."""
        self._complete()

    def _complete(self) -> None:
        if self.answer is None and self._parser.get_status_code() >= 200:
            self.answer = Response(self._parser.get_status_code(), self._headers, self._body)
            self._loop.stop()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes of the answer."""
        if self.answer is None:
            self._parser.feed_data(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        """Take bytes of the answer."""
        for data in cast(list[bytes], list_of_data):
            self.write(data)

    def can_write_eof(self) -> bool:
        """No: the client reads one answer."""
        return False

    def is_closing(self) -> bool:
        """No."""
        return False

    def close(self) -> None:
        """Do nothing: the answer has come."""

    def abort(self) -> None:
        """Do nothing."""

    def pause_reading(self) -> None:
        """Do nothing: there is nothing more to read."""

    def resume_reading(self) -> None:
        """Do nothing."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: nothing is buffered."""

    def get_write_buffer_size(self) -> int:
        """Return 0."""
        return 0
