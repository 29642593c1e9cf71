"""What is owed to the journal: a change that is not committed yet, what is to be done then, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec


class Owed(msgspec.Struct):
    """What is owed: ``show`` is called with ``arguments`` when change number ``change`` is committed.

    Where it is refused for want of room ``undo`` is called instead; an end cannot be refused, and has none. Then those
    of ``wakes`` are called. As what holds an answer back (``protocol.responses.Hold``), it can be neither hurried nor
    left: what is not committed cannot be told, and who has gone meanwhile is woken in vain.
    """

    change: int
    show: Callable[..., object]
    arguments: tuple[Any, ...] = ()
    undo: Callable[..., object] | None = None
    wakes: tuple[Callable[[], object], ...] = ()
    # Whether those who waited were woken because there is no room.
    no_room: bool = False

    def wake(self) -> None:
        """Wake those who wait, once."""
        wakes, self.wakes = self.wakes, ()
        for wake in wakes:
            wake()

    def cancel(self) -> None:
        """The client has gone."""

    def hurry(self) -> None:
        """The client sends no more."""
