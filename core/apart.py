"""Blocking work of the server in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Value = TypeVar("Value")


async def apart(function: Callable[[], Value]) -> Value:
    """Return the value of ``function``, or raise its error, from a thread of its own.

    For the server's own work. Not ``asyncio.to_thread``: jobs share its threads, and may keep them
    all.
    """
    came: Future[Value] = Future()
    # From here on it cannot be cancelled.
    came.set_running_or_notify_cancel()

    def work() -> None:
        try:
            came.set_result(function())
        except BaseException as error:  # noqa: BLE001 — the caller gets it
            came.set_exception(error)

    threading.Thread(target=work, name="headway-apart", daemon=True).start()
    return await asyncio.wrap_future(came)
