"""Tasks that tests need: they wait for a file, not for time."""

from __future__ import annotations

import asyncio
import os
import time
from itertools import count as count_up
from pathlib import Path
from typing import Any

import headway

POLL_S = 0.005


@headway.task
async def nothing(_: object) -> None:
    """Return null."""


_counted = count_up()


@headway.task
async def count(_: object) -> int:
    """Return how many such jobs have run before."""
    return next(_counted)


@headway.task
async def give(payload: Any) -> Any:
    """Return the payload."""
    return payload


@headway.task(retries=3)
async def stubborn_failure(payload: str) -> None:
    """Fail, as often as it is tried."""
    raise ValueError(payload)


@headway.task
async def until_file(path: str) -> str:
    """Wait for a file."""
    while not os.access(path, os.F_OK):  # noqa: ASYNC110 — another process makes the file
        await asyncio.sleep(POLL_S)
    return path


@headway.task
def thread_until_file(path: str, context: headway.Context) -> bool:
    """Wait for a file in a thread, whatever happens; return whether the attempt was cancelled meanwhile."""
    while not Path(path).exists():
        time.sleep(POLL_S)
    return context.cancelled


@headway.task
async def report(payload: dict[str, Any], context: headway.Context) -> None:
    """Report progress, then wait for a file."""
    context.progress(payload["percent"])
    await until_file(payload["path"])


@headway.task
async def fail_until_attempt(number: int, context: headway.Context) -> int:
    """Fail until the attempt is ``number``."""
    if context.attempt < number:
        raise ValueError(f"attempt {context.attempt}")
    return context.attempt


@headway.task
async def octets(size: int) -> bytes:
    """Return so many bytes."""
    return b"\x00\xff" * (size // 2)


@headway.task
async def text(payload: dict[str, str]) -> headway.Result:
    """Return a text with a media type."""
    return headway.Result(payload["text"], payload["media_type"])


@headway.task
async def not_json(_: object) -> object:
    """Return what JSON does not have."""
    return object()


@headway.task
async def never_cancelled(_: object) -> None:
    """Go on, however often it is cancelled."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


@headway.task
async def system_exit(_: object) -> None:
    """Raise what ends a program."""
    raise SystemExit(3)


@headway.task
async def note_context(_: object, context: headway.Context) -> dict[str, Any]:
    """Return what the attempt is told of itself."""
    return {"id": context.id, "attempt": context.attempt, "cancelled": context.cancelled}


@headway.task
def leave_behind(_: object) -> int:
    """Start a process that has all that the server has open, and does not end; return its id."""
    pid = os.fork()
    if not pid:
        # But for what the tests read to its end.
        os.closerange(0, 3)
        time.sleep(600)
        os._exit(0)
    return pid
