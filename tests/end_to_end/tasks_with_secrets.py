"""Tasks for the tests of secrets: each ends its job in another way, and says nothing of its payload itself."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any, Literal

import msgspec

import headway

# This module is imported in a worker process, not in the server.
IN_CHILD = "headway.core.processes.child" in sys.modules


class Card(msgspec.Struct):
    """A payload that is refused by its values: at once, or in the worker process alone."""

    number: str
    kind: Literal["debit", "credit"] = "debit"

    def __post_init__(self) -> None:
        """Refuse a number."""
        if IN_CHILD and self.number.endswith("later"):
            raise ValueError(f"the number {self.number} is none")


@headway.task
async def echo(payload: Any) -> Any:
    """Return the payload."""
    return payload


@headway.task
def echo_in_thread(payload: Any) -> Any:
    """Return the payload."""
    return payload


@headway.task(run_in="process")
def echo_in_process(payload: Any) -> Any:
    """Return the payload."""
    return payload


@headway.task
def content(body: headway.Body) -> headway.Result:
    """Return the content."""
    return headway.Result(body.data, body.media_type)


@headway.task(run_in="process")
def pay(card: Card) -> str:
    """Return the number."""
    return card.number


@headway.task(retries=1)
def fail(payload: Any) -> None:
    """Fail, twice."""
    raise RuntimeError("no")


@headway.task
def no_result(payload: Any) -> Any:
    """Return a value that is no JSON."""
    return {"value": payload, "other": {1, 2}.__iter__()}


@headway.task
def long_result(payload: Any) -> Any:
    """Return more than a result may have."""
    return str(payload) * 100_000


@headway.task(run_in="process")
def die(payload: Any) -> None:
    """End the worker process."""
    os._exit(3)


@headway.task(timeout=0.05)
async def take_long(payload: Any) -> None:
    """Run out of time."""
    await asyncio.sleep(60)


@headway.task
def block_the_thread(payload: Any) -> None:
    """Ignore a cancellation for a while."""
    time.sleep(0.1)
