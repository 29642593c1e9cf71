"""Tasks with a lifespan and context managers around them, for the tests of worker processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from pathlib import Path

import headway

INSIDE: ContextVar[str] = ContextVar("inside", default="nobody")
# The file in which the lifespan notes its steps.
NOTES = os.environ.get("HEADWAY_TEST_NOTES")


def note(line: str) -> None:
    """Write down a step."""
    if NOTES:
        with Path(NOTES).open("a") as file:
            file.write(f"{line}\n")


@headway.lifespan
async def life() -> AsyncIterator[dict[str, int]]:
    """Count the turns of its event loop."""
    if NOTES and os.path.exists(NOTES + ".broken"):  # noqa: ASYNC240 — there is nothing else on its loop
        raise ConnectionError("no database")
    state = {"turns": 0}

    async def turn() -> None:
        while True:
            await asyncio.sleep(0.001)
            state["turns"] += 1

    turning = asyncio.create_task(turn())
    note(f"begins {os.getpid()}")
    yield state
    turning.cancel()
    note(f"ends {os.getpid()}")


@headway.around
def outer(context: headway.Context) -> Iterator[None]:
    """Note the error of the task."""
    INSIDE.set("outer")
    try:
        yield
    except ValueError as error:
        raise LookupError(f"outer saw {error}") from error


@headway.around
def inner(context: headway.Context) -> Iterator[None]:
    """Be inside of the other one."""
    INSIDE.set(f"{INSIDE.get()} inner")
    yield


@headway.task
def tell(_: object, context: headway.Context) -> list[object]:
    """Return what the context and the process have."""
    context.log.info("told")
    return [INSIDE.get(), context.task, context.traceparent]


@headway.task
def fail(_: object) -> None:
    """Fail."""
    raise ValueError("no")


@headway.task
def turns(before: int, context: headway.Context) -> int:
    """Wait for the loop of the lifespan to have made more turns."""
    while context.state["turns"] <= before:
        pass
    count: int = context.state["turns"]
    return count
