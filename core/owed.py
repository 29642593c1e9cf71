"""What is owed to the journal: a change that is not committed yet, what is to be shown then, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec


class Owed(msgspec.Struct):
    """``show`` is called with ``arguments`` when change number ``change`` is committed; then those of ``wakes``.

    As what holds an answer back (``protocol.responses.Hold``), it can be neither hurried nor left: what is not
    committed cannot be told, and who has gone meanwhile is woken in vain.
    """

    change: int
    show: Callable[..., object]
    arguments: tuple[Any, ...] = ()
    # The idempotency key to be forgotten if it is rejected, which only a submission can be.
    key: str | None = None
    wakes: tuple[Callable[[], object], ...] = ()

    def cancel(self) -> None:
        """The client has gone."""

    def hurry(self) -> None:
        """The client sends no more."""
