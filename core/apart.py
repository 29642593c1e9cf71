"""Blocking work of the server in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Answer = TypeVar("Answer")


async def apart(function: Callable[[], Answer]) -> Answer:
    """Return what ``function`` returns, or raise what it raises, from a thread of its own.

    For what the server does. Not ``asyncio.to_thread``: jobs share its threads, and may keep all of them.
    """
    came: Future[Answer] = Future()
    # From here on it cannot be cancelled.
    came.set_running_or_notify_cancel()

    def work() -> None:
        try:
            came.set_result(function())
        except BaseException as error:  # noqa: BLE001 — for who waits
            came.set_exception(error)

    threading.Thread(target=work, name="headway-apart", daemon=True).start()
    return await asyncio.wrap_future(came)
