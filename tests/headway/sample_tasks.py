"""Tasks of a user who tests them."""

from __future__ import annotations

import asyncio
import time

import headway


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
