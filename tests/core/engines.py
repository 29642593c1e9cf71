"""Engines for tests that see no socket, and tasks for them."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from headway.core.config import Config
from headway.core.gateway.engine import GatewayEngine
from headway.core.gateway.links import GatewayLinks
from headway.core.gateway.showing import Showing
from headway.core.interface import Engine, Later, Soon
from headway.core.job import State, Submission
from headway.core.local.engine import LocalEngine
from headway.core.status import Status
from headway.core.tasks.registry import Options, Registry

Value = TypeVar("Value")

# Seconds after which a test that waits has failed.
PATIENCE_S = 5.0
UNSTOPPABLE_S = 30.0


def settings(**changed: Any) -> Config:
    """Small and fast, with ``changed`` laid over."""
    small = {
        "workers": 2,
        "jobs": {"backoff": 0.01, "backoff_max": 0.02},
        "drain_timeout": 5.0,
        "journal": {"path": None},
    }
    return msgspec.convert(small | changed, Config)


@asynccontextmanager
async def engine_with(*functions: Callable[..., Any], **changed: Any) -> AsyncIterator[LocalEngine]:
    registry = Registry()
    for function in functions:
        registry.add(function, Options())
    engine = LocalEngine(settings(**changed), registry)
    await engine.start(print)
    try:
        yield engine
    finally:
        await engine.stop()


def now(soon: Soon[Value]) -> Value:
    """Return a value that is known at once, as all are without a journal."""
    assert not isinstance(soon, Later)
    return soon


async def known(soon: Soon[Value]) -> Value:
    """Return a value once it is known."""
    return await at_last(soon) if isinstance(soon, Later) else soon


async def at_last(later: Later[Value]) -> Value:
    """Return a value that is not known yet, once it is."""
    woken = asyncio.Event()
    later.when_known(woken.set)
    async with asyncio.timeout(PATIENCE_S):
        await woken.wait()
    return later.value()


def submit(engine: LocalEngine, task: str, payload: object = None, **members: Any) -> bytes:
    raw = msgspec.Raw(msgspec.json.encode(payload))
    status = now(engine.submit(Submission(task=task, payload=raw, **members))).status
    return status.id


def peek(engine: LocalEngine, job_id: bytes) -> Status:
    status = now(engine.peek(job_id))
    assert status is not None
    return status


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        pauses = growing_pauses()
        while not condition():  # noqa: ASYNC110 — what is awaited here is seen from outside, as a client does
            await asyncio.sleep(next(pauses))


def growing_pauses() -> Iterator[float]:
    """Yield the seconds between two looks at what is seen from outside: a millisecond, and soon ten."""
    pause = 0.001
    while True:
        yield pause
        pause = min(pause * 1.2, 0.01)


async def over(engine: LocalEngine, job_id: bytes) -> Status:
    await until(lambda: peek(engine, job_id).state >= State.SUCCEEDED)
    return peek(engine, job_id)


def said(engine: LocalEngine, status: Status) -> str:
    result = now(engine.result(status))
    assert result is not None
    return result.body.decode()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


async def double(payload: int) -> int:
    return 2 * payload


def triple(payload: int) -> int:
    assert threading.current_thread() is not threading.main_thread()
    return 3 * payload


async def broken(payload: object) -> None:
    raise ValueError(payload)


async def forever(_: object) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def engine_of(*tasks: tuple[Callable[..., Any], Options], **changed: Any) -> AsyncIterator[LocalEngine]:
    registry = Registry()
    for function, options in tasks:
        registry.add(function, options)
    engine = LocalEngine(settings(**changed), registry)
    await engine.start(print)
    try:
        yield engine
    finally:
        await engine.stop()


class Through(GatewayEngine):
    """An engine as a gateway sees it. Its life is the engine's own affair."""

    def __init__(self, engine: LocalEngine, config: Config, path: str) -> None:
        super().__init__(config, path, "")
        self._engine = engine

    async def drain(self, timeout_s: float, keeps_clients: bool = False) -> int:
        """Drain the engine."""
        return await self._engine.drain(timeout_s, keeps_clients)

    def resume(self) -> None:
        """Have it go on."""
        self._engine.resume()

    async def stop(self) -> None:
        """End its workers. The gateway goes on."""
        await self._engine.stop()

    async def leave(self) -> None:
        """End the gateway."""
        await super().stop()


def is_gateway(engine: Engine) -> bool:
    """Whether the engine is in another process, as far as its caller can tell."""
    return isinstance(engine, Through)


@asynccontextmanager
async def gateway(engine: Engine, config: Config, folder: Path) -> AsyncIterator[Engine]:
    """Return ``engine``, which runs in this process, as a gateway sees it."""
    assert isinstance(engine, LocalEngine)
    # A second engine of a test has a socket of its own.
    path = str(folder / f"engine-{secrets.token_hex(4)}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        links = GatewayLinks(engine, Showing(engine, ""))
        links.listen(listener)
        seen = Through(engine, config, path)
        await seen.start(int)
        yield seen
        await seen.leave()
        links.close()
