"""A worker process that says anything to the server harms its own job, and is replaced if it is not understood.

An input is a message, chosen by its first byte, with bytes changed by pairs of place and value, as many
as the second byte says, and more bytes behind it. A task writes them between two messages of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import json
from math import inf, nan

from headway.core.errors import InvalidPayloadError
from headway.core.processes import frames
from headway.core.processes.frames import Message
from headway.core.processes.messages import FATAL, Broken, Done, Failed, Log, Progress, Ready
from headway.core.processes.pool import FailedError, Processes
from headway.core.processes.process import UNFINISHED_S, CrashedError
from headway.core.tasks.failure import Failure
from headway.core.tasks.result import ResultError

from tests.fuzz.line import ERRORS

TASKS = "tests.fuzz.scribbling"
PATIENCE_S = UNFINISHED_S + 20.0
# Calls that may be lost after a message that was not understood: those of one process.
LOST_MOST = 2


def message(kind: int, number: int) -> bytes:
    """Return a message, to the call of this number if it is to one."""
    log = Log("name", 30, 1e9, "a message", "", "job", "task", 1)
    said: list[Message] = [
        Progress(number, 50, "half"),
        Progress(number, 1 << 40, "far"),
        Progress(number, -1),
        Done(number, 1, None, ""),
        Done(number, 1, 4, "text/plain\r\nX: y"),
        Done(number, -1, 1 << 30, "text/plain"),
        Failed(number, 1, "task", Failure("ValueError", "no")),
        Failed(number - 1, 1, "payload", Failure("", "old")),
        Ready(),
        Broken("an error\nof two lines"),
        log,
        Log("name", 1 << 60, inf, "x" * 1000, "a\nstack", "", "", -1),
        Log("name", -1, nan, "", "", "", "", 0),
    ]
    if kind % (len(said) + 2) == len(said):
        return FATAL
    if kind % (len(said) + 2) == len(said) + 1:
        return b""
    return frames.frame(said[kind % (len(said) + 2)])


class World:
    """One worker process on a loop of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        atexit.register(self.loop.close)
        self.loop.set_exception_handler(lambda _, context: ERRORS.told.append(repr(context)))
        self.processes = self.loop.run_until_complete(self._open())
        self.calls = 0
        atexit.register(self.close)

    async def _open(self) -> Processes:
        processes = Processes(1, [TASKS], max_jobs=0, max_memory_bytes=0, result_bytes=100_000)
        processes.start()
        return processes

    async def call(self, task: str, payload: object) -> object:
        """Return the value that a task gave, None if its call was lost."""
        self.calls += 1
        async with asyncio.timeout(PATIENCE_S):
            try:
                given = json.dumps(payload).encode()
                result = await self.processes.run(task, given, "job", 1, report=check_progress)
            except (CrashedError, FailedError, ResultError, InvalidPayloadError):
                return None
        return None if result is None else result.body

    def close(self) -> None:
        """End the process."""
        atexit.unregister(self.close)
        self.loop.run_until_complete(self.processes.stop())
        self.loop.close()


def check_progress(percent: int, text: str) -> None:
    """See that a progress is one."""
    assert 0 <= percent <= 100, percent


WORLD: list[World] = []


def fuzz_one(data: bytes) -> None:
    """Have a task say it. See that the next job has its own answer."""
    if len(data) < 2:
        return
    if not WORLD:
        WORLD.append(World())
    world = WORLD[0]
    said = bytearray(message(data[0], world.calls + 1))
    edits, tail = data[2 : 2 + 2 * data[1]], data[2 + 2 * data[1] :]
    for place, value in zip(edits[::2], edits[1::2], strict=False):
        if said:
            said[place % len(said)] = value
    try:
        world.loop.run_until_complete(_say(world, bytes(said) + tail))
        assert not ERRORS.told, ERRORS.told[0]
    except BaseException:
        WORLD.pop().close()
        raise
    finally:
        ERRORS.told.clear()


async def _say(world: World, said: bytes) -> None:
    await world.call("scribble", said.hex())
    for number in range(LOST_MOST + 1):
        answer = await world.call("give", number)
        assert answer in (None, b"%d" % number), answer
        if answer is not None:
            return
    raise AssertionError(f"{LOST_MOST + 1} jobs were lost by one message")
