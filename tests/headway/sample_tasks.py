"""Tasks of a user who tests them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import headway

# The tasks whose attempts were begun, in their order.
BEGUN: list[str] = []


@headway.lifespan
async def tested_life() -> AsyncIterator[dict[str, int]]:
    """Have a pool."""
    yield {"pool": 7}


@headway.around
def tested_around(context: headway.Context) -> Iterator[None]:
    """Note the attempt."""
    BEGUN.append(context.task)
    yield


@headway.task
async def tested_double(payload: int) -> int:
    """Double."""
    return payload * 2


@headway.task
async def tested_sleep(payload: float) -> None:
    """Wait."""
    await asyncio.sleep(payload)


@headway.task
async def tested_failure(_: object) -> None:
    """Fail."""
    raise RuntimeError("no")


@headway.task
def tested_in_thread(payload: float) -> None:
    """Wait in real time."""
    time.sleep(payload)


@headway.task(run_in="process")
def tested_in_process(payload: float) -> None:
    """Wait in real time."""
    time.sleep(payload)


@headway.task
def tested_content(body: headway.Body) -> headway.Result:
    """Reverse."""
    return headway.Result(body.data[::-1], body.media_type)


@headway.task
async def tested_state(_: object, context: headway.Context) -> object:
    """Tell the value of the lifespan."""
    return context.state
