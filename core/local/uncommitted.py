"""Changes that are not on disk yet, and the answers that wait for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from headway.core.errors import JournalFullError
from headway.core.interface import Later

Value = TypeVar("Value")


class Uncommitted(msgspec.Struct):
    """A change. ``show`` is called with ``arguments`` when change ``number`` is committed.

    If the disk has no room for it, ``undo`` is called instead. The end of a job cannot be refused,
    and has no ``undo``. After either, all ``wakes`` are called.
    """

    number: int
    show: Callable[..., object]
    arguments: tuple[Any, ...] = ()
    undo: Callable[..., object] | None = None
    wakes: tuple[Callable[[], object], ...] = ()
    # Whether waiting clients were woken because there is no room.
    no_room: bool = False

    def wake(self) -> None:
        """Wake the waiting clients, once."""
        wakes, self.wakes = self.wakes, ()
        for wake in wakes:
            wake()


class Committed(Later[Value]):
    """The value that ``then`` returns, once a change is committed.

    It can be neither hurried nor cancelled. An uncommitted change cannot be answered, and a client
    that has gone meanwhile is woken in vain.
    """

    __slots__ = ("_change", "_then")

    def __init__(self, change: Uncommitted, then: Callable[[], Value]) -> None:
        self._change = change
        self._then = then

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when the change is committed, or refused."""
        self._change.wakes += (wake,)

    def value(self) -> Value:
        """Return the value. Raises JournalFullError if there was no room, or the error of ``then``."""
        if self._change.no_room:
            raise JournalFullError
        return self._then()
