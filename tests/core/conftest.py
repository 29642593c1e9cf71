"""Tests that are coroutine functions: each on a loop of its own, or on that of the ``runner`` it asks for."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from tests.end_to_end.process import copied_writers

# Seconds after which such a test has failed.
LONGEST_S = 20.0


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """A loop that the tests of a module share."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module", autouse=True)
def copied(request: pytest.FixtureRequest) -> Iterator[None]:
    """In ``make test`` the writers of journals are copies: to start one takes a quarter of the CPU."""
    with copied_writers() if request.config.option.markexpr == "not long" else nullcontext():
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function to its end."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    running = asyncio.wait_for(test(**arguments), LONGEST_S)
    shared = pyfuncitem.funcargs.get("runner")
    if isinstance(shared, asyncio.Runner):
        shared.run(running)
    else:
        asyncio.run(running)
    return True
