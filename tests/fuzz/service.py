"""A server without sockets and processes, with a job in each state. Its one worker is busy for good.

So whatever is submitted waits, and two of them that are asked the same give the same answers.
"""

from __future__ import annotations

import asyncio
import atexit
import re
from typing import Any

from headway.core.job import State, Submission
from headway.core.key import Key
from headway.core.local.engine import LocalEngine
from headway.core.tasks.registry import Options, Registry
from headway.protocol.api.app import Api
from msgspec import Raw

from headway import Body, Context
from tests.core import engines
from tests.core.engines import now
from tests.fuzz.line import ERRORS, Line, check_clean
from tests.protocol.late import LateEngine
from tests.protocol.wire import request

_JOB_MADE = re.compile(rb"^Location: /jobs/([0-9a-f]{36})\r$", re.MULTILINE)
_BATCH_MADE = re.compile(rb"^Location: /batches/([0-9a-f]{40})\r$", re.MULTILINE)
_NAMES = re.compile(rb"\$[SFRQDCB]")
# The names of the jobs in scripts, and their states; the batch is made of the last job.
STATES = {
    b"$S": b"succeeded",
    b"$F": b"failed",
    b"$R": b"running",
    b"$Q": b"queued",
    b"$D": b"scheduled",
    b"$C": b"cancelled",
    b"$B": b"",
}
BATCH = b"$B"
# The key of the job that succeeded.
KEY = b"order-4711"
# The log of that job.
LOGGED = "0123456789" * 10 + "\n"
# A job stays in its state for longer than any run of the fuzz: a day.
LASTING_S = 86_400.0
# Settings under which little is kept, so that a world is made and left quickly.
SMALL = {
    "http": {"hosts": ["*"]},
    "workers": 1,
    "queue": {"size": 64, "max_bytes": 1 << 20},
    "retention": {"jobs": 500},
    "jobs": {"backoff": 1000, "backoff_max": 1000, "retries": 0},
    "limits": {"head_bytes": 2048, "headers": 20, "request_line_bytes": 512, "body_bytes": 4096},
}


# What a thread makes when it is asked for first.
MADE = (("/", "application/json"), ("/", "text/html"), ("/docs", "*/*"), ("/openapi.json", "*/*"))


async def nothing(_: object) -> None:
    """Return nothing."""


async def text(payload: str, context: Context) -> str:
    """Return a text, and log LOGGED."""
    context.log(LOGGED)
    return payload


async def content(payload: Body) -> str:
    """Return the media type of content."""
    return payload.media_type


async def fail(_: object) -> None:
    """Fail."""
    raise ValueError("no")


async def forever(_: object) -> None:
    """Keep the worker."""
    await asyncio.Event().wait()


class World:
    """The server, and the ids of its jobs by the names that a script has for them.

    If it ``is_late``, its engine tells nothing at once.
    """

    def __init__(self, *, is_late: bool = False) -> None:
        self._is_late = is_late
        self.loop = asyncio.new_event_loop()
        atexit.register(self.loop.close)
        self.loop.set_exception_handler(lambda _, context: ERRORS.told.append(repr(context)))
        self.ids: dict[bytes, bytes] = {}
        self.loop.run_until_complete(self._open())
        atexit.register(self.close)

    async def _open(self) -> None:
        registry = Registry()
        for function, options in (
            (nothing, Options()),
            (text, Options()),
            (content, Options(body_bytes=8192)),
            (fail, Options(retries=0)),
            (forever, Options()),
        ):
            registry.add(function, options)
        self.engine = LocalEngine(engines.settings(**SMALL), registry)
        await self.engine.start(print)
        # Between two inputs the loop stands still.
        self.engine.watchdog.stop()
        self._late = LateEngine(self.engine)
        asked: Any = self._late if self._is_late else self.engine
        self.api = Api(self.engine.config, asked)
        succeeded = now(self.engine.submit(Submission(task="text", payload=Raw(b'"text"')), Key.of(KEY.decode(), b"")))
        self.ids[b"$S"] = succeeded.status.id
        self.ids[b"$F"] = engines.submit(self.engine, "fail")
        for job_id in self.ids.values():
            await engines.over(self.engine, job_id)
        self.ids[b"$R"] = engines.submit(self.engine, "forever", timeout=LASTING_S)
        await engines.until(lambda: engines.peek(self.engine, self.ids[b"$R"]).state == State.RUNNING)
        self.ids[b"$Q"] = engines.submit(self.engine, "nothing")
        self.ids[b"$D"] = engines.submit(self.engine, "nothing", delay=LASTING_S)
        self.ids[b"$C"] = engines.submit(self.engine, "nothing")
        self.engine.cancel(engines.peek(self.engine, self.ids[b"$C"]))
        self.ids[BATCH] = now(self.engine.submit_batch([Submission(task="nothing")])).status.id
        for target, accept in MADE:
            await self._made(request("GET", target, f"Accept: {accept}"))

    async def _made(self, data: bytes) -> None:
        line = self.line()
        line.connection.data_received(data)
        await engines.until(lambda: bool(line.answers))
        line.hang_up()

    def line(self) -> Line:
        """Connect. Answers that wait, wait for time, or for an engine that is late."""
        return Line(self.loop, self.api.connections, self._late.come)

    def settle(self, line: Line) -> None:
        """Let the loop turn until nothing is left to do, and the engine has told all."""
        line.settle()
        while self._late.come():
            line.settle()

    def ask(self, data: bytes) -> bytes:
        """Return the answers to ``data`` on a connection of its own."""
        line = self.line()
        line.play([data])
        line.settle()
        line.finish()
        self.check_clean()
        return self.forgotten(bytes(line.answers))

    def forgotten(self, answers: bytes) -> bytes:
        """Return answers, and cancel the jobs that they tell of."""
        for job_id in _JOB_MADE.findall(answers):
            if job_id not in self.ids.values() and (status := now(self.engine.peek(job_id))):
                self.engine.cancel(status)
        for batch_id in _BATCH_MADE.findall(answers):
            batch = now(self.engine.peek_batch(batch_id))
            if batch is not None:
                self.engine.cancel_batch(batch)
        return answers

    def check_clean(self) -> None:
        """See that nothing failed, and that no connection is left."""
        try:
            check_clean(self.api.connections)
        finally:
            ERRORS.told.clear()

    def named(self, data: bytes) -> bytes:
        """Return ``data`` with the ids of this world in place of their names."""
        return _NAMES.sub(lambda found: self.ids[found[0]], data)

    def close(self) -> None:
        """End it."""
        atexit.unregister(self.close)
        self.loop.run_until_complete(self.engine.stop())
        self.loop.close()
