"""Answers that wait for something to be made in a thread: the loop has its turns meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from headway.core.apart import apart
from headway.protocol.http.responses import Answer, Awaited

Thing = TypeVar("Thing")


class Made(Generic[Thing]):
    """Holds an answer until ``make`` has returned, in a thread of its own."""

    __slots__ = ("_task",)

    def __init__(self, make: Callable[[], Thing]) -> None:
        self._task = asyncio.ensure_future(apart(make))

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when it was made. The answer meets what went wrong."""
        self._task.add_done_callback(lambda task: (task.exception(), wake()))

    def hurry(self) -> None:
        """Go on: it is made in a moment."""

    def cancel(self) -> None:
        """Go on: the next client asks for it too."""

    def thing(self) -> Thing:
        """Return what was made, or raise the error that came instead."""
        return self._task.result()


def once_made(make: Callable[[], Thing], then: Callable[[Thing], Answer | Awaited]) -> Awaited:
    """Return the answer that ``then`` makes of the value of ``make``."""
    made = Made(make)
    return Awaited(made, lambda: then(made.thing()))
