"""Values that come later: one that is being read, and one that is made of another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from headway.core.errors import HeadwayError
from headway.core.interface import Feed, Later, Soon

First = TypeVar("First")
Value = TypeVar("Value")
Made = TypeVar("Made")


async def known(soon: Soon[Value]) -> Value:
    """Return a value once it is known. Raises the HeadwayError that came instead."""
    if not isinstance(soon, Later):
        return soon
    woken = asyncio.Event()
    soon.when_known(woken.set)
    await woken.wait()
    return soon.value()


class Read(Later[Value]):
    """A value that is being read, from a disk or from another machine."""

    __slots__ = ("_future", "_wake")

    def __init__(self, future: asyncio.Future[Value]) -> None:
        self._future = future
        self._wake: Callable[[], object] = int

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when the value was read."""
        self._wake = wake
        self._future.add_done_callback(self._done)

    def _done(self, _: asyncio.Future[Value]) -> None:
        self._wake()

    def value(self) -> Value:
        """Return the value. Raises the HeadwayError that says why it cannot be read."""
        return self._future.result()

    def cancel(self) -> None:
        """Read no further."""
        self._future.remove_done_callback(self._done)
        self._future.cancel()


class Then(Later[Value]):
    """The value that ``then`` makes of that of ``first``, at once or later again."""

    __slots__ = ("_error", "_found", "_then", "_waits_for", "_wake")

    def __init__(self, first: Later[First], then: Callable[[First], Soon[Value]]) -> None:
        self._waits_for: Later[Any] = first
        self._then: Callable[[Any], Soon[Value]] = then
        self._wake: Callable[[], object] = int
        self._found: Soon[Value]
        self._error: Exception | None = None

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when both are known."""
        self._wake = wake
        self._waits_for.when_known(self._go_on)

    def _go_on(self) -> None:
        try:
            self._found = self._take()
        except Exception as error:  # noqa: BLE001 — ``value`` raises it
            self._error = error
        else:
            if isinstance(self._found, Later):
                self._waits_for = self._found
                self._found.when_known(self._wake)
                return
        self._wake()

    def _take(self) -> Soon[Value]:
        return self._then(self._waits_for.value())

    def value(self) -> Value:
        """Return the value that ``then`` made. Raises the error of either."""
        if self._error is not None:
            raise self._error
        return self._found.value() if isinstance(self._found, Later) else self._found

    def hurry(self) -> None:
        """Hurry the value that is waited for."""
        self._waits_for.hurry()

    def cancel(self) -> None:
        """Wait no more."""
        self._waits_for.cancel()


class Otherwise(Then[Value]):
    """The value of ``first``, or the one that ``other`` makes of the HeadwayError that came instead."""

    __slots__ = ("_other",)

    def __init__(self, first: Later[Value], other: Callable[[HeadwayError], Soon[Value]]) -> None:
        super().__init__(first, lambda found: found)
        self._other = other

    def _take(self) -> Soon[Value]:
        try:
            return super()._take()
        except HeadwayError as error:
            return self._other(error)


class Opening(Then[Feed]):
    """Events that are opened once ``first`` is known. If their reader goes before it took them, they are closed."""

    __slots__ = ("_feed",)

    def __init__(self, first: Later[First], make: Callable[[First], Feed]) -> None:
        super().__init__(first, make)
        self._feed: Feed | None = None

    def _take(self) -> Soon[Feed]:
        feed = super()._take()
        if isinstance(feed, Feed):
            self._feed = feed
        return feed

    def cancel(self) -> None:
        """Wait no more. What was opened meanwhile has no reader."""
        super().cancel()
        if self._feed is not None:
            self._feed.close()


def then(soon: Soon[Value], make: Callable[[Value], Soon[Made]]) -> Soon[Made]:
    """Return the value that ``make`` makes of another one, now or later."""
    return Then(soon, make) if isinstance(soon, Later) else make(soon)
