"""Tasks of the kill loop, each of which leaves a line behind: its number, the life of the server, and when it began.

Times are of CLOCK_MONOTONIC in ns, which on Linux is one for all processes.
"""

from __future__ import annotations

import asyncio
import os
import time

import headway

EFFECTS, LIFE = "CRASH_EFFECTS", "CRASH_LIFE"
# Nowhere where the kill loop itself imports this.
_file = os.open(os.environ.get(EFFECTS, os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
_life = int(os.environ.get(LIFE, "0"))


def leave(number: int) -> None:
    """Leave a line behind: one write, which a kill leaves whole or undone."""
    os.write(_file, b"%d %d %d\n" % (number, _life, time.monotonic_ns()))


@headway.task
async def effect(number: int) -> int:
    """Leave a line behind, wait a moment, and return the number."""
    leave(number)
    await asyncio.sleep(0)
    return number


@headway.task
async def slow_effect(number: int) -> int:
    """The same, so slowly that some run at each kill."""
    leave(number)
    await asyncio.sleep(0.05)
    return number


@headway.task
async def long_effect(number: int) -> int:
    """The same, so slowly that a node has some in its hands at each moment."""
    leave(number)
    await asyncio.sleep(0.25)
    return number


@headway.task(max_concurrent=1)
async def lone_effect(number: int) -> int:
    """The same, never two at once: the number below zero is left at the end."""
    leave(number)
    await asyncio.sleep(0.01)
    leave(-number)
    return number


@headway.task
async def failing_effect(number: int) -> None:
    """Leave a line behind and fail."""
    leave(number)
    raise ValueError(f"no {number}")
