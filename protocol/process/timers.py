"""Timers of a loop, those that are due at about the same time together.

A timer of libuv has a place in a heap, memory of its own, and a handle that is closed in a later
turn. And each one that is due takes a turn of the loop. A crowd of jobs that sleep has thousands of
them a second. So a timer of NEAR_S and more is due at the next multiple of TOGETHER_S, 5% late at
the most and never early, and all those of one multiple share one of libuv's. That is 13% of the
server's CPU under a crowd (docs/performance.md).

A timer of FAR_S and more has one of libuv's alone. Such are timeouts, of jobs that end earlier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from time import monotonic
from typing import Any

TOGETHER_S = 0.005
NEAR_S = 0.1
FAR_S = 60.0
# The least time of a timer of libuv.
LEAST_S = 0.001


class Timer(asyncio.TimerHandle):
    """A callback that is due ``together`` with others."""

    __slots__ = ("_together",)

    # Each is another one, although their times may be the same.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        together: dict[Timer, None],
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        *,
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        # All attributes of a handle. Its own __init__ costs a third of such a timer.
        self._when = when
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = copy_context() if context is None else context
        self._cancelled = self._scheduled = False
        self._repr = self._source_traceback = None
        # None once it was called or cancelled.
        self._together: dict[Timer, None] | None = together
        together[self] = None

    def cancel(self) -> None:
        """Do not call the callback."""
        if self._together is not None:
            del self._together[self]
            self._together = self._callback = self._args = None  # type: ignore[assignment]
            self._cancelled = True

    def fire(self) -> None:
        """Call the callback. Raises SystemExit and KeyboardInterrupt of it, and nothing else."""
        self._together = None
        self._run()


class Timers:
    """The timers of ``loop`` that are due together. ``start`` starts one of libuv's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: Callable[..., object]) -> None:
        self._loop = loop
        self._start = start
        # By their time, in multiples of TOGETHER_S.
        self._due: dict[int, dict[Timer, None]] = {}
        # That of libuv's timers, which are no job's.
        self._context = Context()

    def add(
        self, delay: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> Timer:
        """Have ``callback`` called after ``delay`` seconds, of NEAR_S to FAR_S."""
        now = monotonic()
        when = now + delay
        place = int(when / TOGETHER_S) + 1
        together = self._due.get(place)
        if together is None:
            together = self._due[place] = {}
            self._start(place * TOGETHER_S - now, self._fire, place, context=self._context)
        return Timer(together, when, callback, args, loop=self._loop, context=context)

    def _fire(self, place: int) -> None:
        left = place * TOGETHER_S - monotonic()
        if left > 0:
            # libuv counts from the beginning of the turn in which it was started, in milliseconds.
            self._start(max(left, LEAST_S), self._fire, place, context=self._context)
            return
        together = self._due.pop(place)
        try:
            while together:
                timer = next(iter(together))
                del together[timer]
                timer.fire()
        finally:
            if together:
                # A callback stops the loop, which goes on.
                self._due[place] = together
                self._start(0.0, self._fire, place, context=self._context)
