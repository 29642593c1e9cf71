"""The engines that exist. Each test of this folder runs for each of them, and sees it by core/interface.py alone.

``engine`` is shared by the tests of a module, which lists its tasks as TASKS; ``start`` starts one with tasks and
settings of the test's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest
from headway.core.errors import ConfigError
from headway.core.interface import Engine
from headway.core.open import open_engine
from headway.core.tasks.registry import Options, Registry

from tests.conftest import fresh_database
from tests.core.contract.client import clear
from tests.core.engines import broken, double, forever, gateway, settings

GATEWAYS = {"server": {"gateways": 1}}
# By name, the settings that ask for an engine. ``folder`` is its own, and ``database`` makes an empty one of a store.
ENGINES: dict[str, Callable[[Path, Callable[[], str]], dict[str, Any]]] = {
    "memory": lambda folder, database: {},
    "journal": lambda folder, database: {"journal": {"path": str(folder / "jobs")}},
    "valkey": lambda folder, database: {"engine": database()},
    # The first two, seen through a gateway.
    "memory-gateway": lambda folder, database: {"gateway": folder} | GATEWAYS,
    "journal-gateway": lambda folder, database: (
        {"gateway": folder, "journal": {"path": str(folder / "jobs")}} | GATEWAYS
    ),
}

Function = Callable[..., Any]
Tasks = tuple[Function | tuple[Function, Options], ...]


class Start(Protocol):
    """Start an engine with these tasks; settings are laid over those of tests/core/engines.py.

    ``arounds`` and ``lifespan`` are declared to be around the tasks.

    A second engine of the same test goes on from what the first has kept.
    """

    def __call__(
        self, *tasks: Function | tuple[Function, Options], **changed: Any
    ) -> AbstractAsyncContextManager[Engine]: ...


@asynccontextmanager
async def started(
    own: dict[str, Any], *tasks: Function | tuple[Function, Options], **changed: Any
) -> AsyncIterator[Engine]:
    """Start the engine that the settings ``own`` ask for; it ends with the block."""
    registry = Registry()
    for task in tasks:
        registry.add(*task if isinstance(task, tuple) else (task, Options()))
    for around in changed.pop("arounds", ()):
        registry.arounds.add(around)
    if "lifespan" in changed:
        registry.set_lifespan(changed.pop("lifespan"))
    folder = own.get("gateway")
    own = {name: value for name, value in own.items() if name != "gateway"}
    config = settings(**own, **changed)
    engine: Engine = await asyncio.to_thread(open_engine, config, registry, lambda _: None)
    fatal: list[str] = []
    try:
        await engine.start(fatal.append)
    except ConfigError:
        await engine.close()
        raise
    try:
        if folder is None:
            yield engine
        else:
            async with gateway(engine, config, folder) as seen:
                yield seen
    finally:
        await engine.stop()
        await engine.close()
    assert fatal == []


def chosen(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    """Return the settings of the engine that a fixture is for."""
    made = ENGINES[request.param]
    return made(folder, lambda: fresh_database(request.getfixturevalue("store")))


# With an engine of its own for each test, those on a store take long. Those of the shared one do not.
SLOW = {"valkey", "memory-gateway", "journal-gateway"}
OWN = [pytest.param(name, marks=pytest.mark.long) if name in SLOW else name for name in ENGINES]
# Of those of the shared one, one shape of a gateway is enough each time.
SHARED = [pytest.param(name, marks=pytest.mark.long) if name == "memory-gateway" else name for name in ENGINES]


@pytest.fixture(params=OWN)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """Start the engine that the test runs for."""
    return partial(started, chosen(request, tmp_path))


@pytest.fixture(scope="module", params=SHARED)
def _shared(
    request: pytest.FixtureRequest, runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    own = chosen(request, tmp_path_factory.mktemp(request.param))
    running = started(own, double, broken, forever, *getattr(request.module, "TASKS", ()), workers=8)
    yield runner.run(running.__aenter__())
    runner.run(running.__aexit__(None, None, None))


@pytest.fixture
def engine(_shared: Engine, runner: asyncio.Runner) -> Iterator[Engine]:
    """An engine with eight workers, the tasks ``double``, ``broken``, ``forever`` and TASKS, and no active job."""
    yield _shared
    runner.run(clear(_shared))
