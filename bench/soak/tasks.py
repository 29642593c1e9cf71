"""Tasks of the soak, beside those of the kill loop: they run in a thread, in a process, at the second attempt."""

from __future__ import annotations

import time

import headway


@headway.task(run_in="thread")
def in_thread(number: int) -> int:
    """Take a moment in a thread, and return the number."""
    time.sleep(0.01)
    return number


@headway.task(run_in="thread")
def rest_in_thread(seconds: float) -> None:
    """Keep a thread for a while."""
    time.sleep(seconds)


@headway.task(run_in="process", retries=5)
def in_process(number: int) -> int:
    """Take so long in a worker process that a kill meets some, and return the number."""
    time.sleep(0.2)
    return number


@headway.task(retries=2)
async def at_second_attempt(number: int, context: headway.Context) -> int:
    """Fail at the first attempt, and return the number at the next."""
    if context.attempt == 1:
        raise ConnectionError(f"no {number} yet")
    return number


@headway.task
async def reverse(text: str) -> str:
    """Return a long text from its end to its beginning."""
    return text[::-1]
