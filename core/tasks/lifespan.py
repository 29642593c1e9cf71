"""The lifespan of a process: a context manager of the user's, from the start to the end.

It lives in a task of its own, in which it is entered and left, as libraries with cancel scopes ask
for. Its value is ``context.state`` of all attempts in the process. In a worker process the main
thread runs tasks, so the lifespan has an event loop in another thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import Context as Variables
from typing import TYPE_CHECKING, Any

from headway.core.errors import ConfigError
from headway.core.tasks.around import Around

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

# Seconds in which it has to end when its process does.
LEAVE_S = 3.0


class Lifespan:
    """The life of ``declared``, None if none is declared. ``variables`` is the context that it begins in."""

    def __init__(self, declared: Around | None, variables: Variables | None = None) -> None:
        self._declared = declared
        self._variables = variables
        self._task: asyncio.Task[None] | None = None
        self._leave: asyncio.Event

    async def begin(self) -> object:
        """Enter it and return its value. Raises ConfigError, with one line, if it raises."""
        if self._declared is None:
            return None
        import asyncio  # 15 ms, and most worker processes need it not

        self._leave = asyncio.Event()
        loop = asyncio.get_running_loop()
        entered: asyncio.Future[object] = loop.create_future()
        self._task = loop.create_task(self._live(self._declared, entered), context=self._variables)
        try:
            return await entered
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def end(self) -> None:
        """Leave it, if it was entered. It has LEAVE_S."""
        if self._task is None:
            return
        import asyncio

        self._leave.set()
        _, unfinished = await asyncio.wait({self._task}, timeout=LEAVE_S)
        if unfinished:
            log.error("%s did not end within %g s", self._where, LEAVE_S)
            self._task.cancel()

    async def _live(self, declared: Around, entered: asyncio.Future[object]) -> None:
        from asyncio import CancelledError

        try:
            manager: Any = declared.enter()
            async with manager as state:
                if not entered.done():
                    entered.set_result(state)
                await self._leave.wait()
        except BaseException as error:
            if entered.done() and isinstance(error, CancelledError):
                # ``end`` has said so.
                raise
            line = f"{declared.where} raised {type(error).__name__}: {error}".strip().partition("\n")[0]
            if not entered.done():
                entered.set_exception(ConfigError(line))
            else:
                log.error("%s", line, exc_info=error)

    @property
    def _where(self) -> str:
        return "" if self._declared is None else self._declared.where


def begin_in_thread(declared: Around | None) -> tuple[object, Callable[[], None]]:
    """Enter it on an event loop in a thread of its own, for a worker process.

    Return its value, and a function that leaves it. Raises ConfigError as ``begin`` does.
    """
    if declared is None:
        return None, lambda: None
    import asyncio
    import threading
    from contextlib import suppress

    lifespan, loop = Lifespan(declared), asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="headway-lifespan", daemon=True).start()

    def leave() -> None:
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(lifespan.end(), loop).result(LEAVE_S)

    return asyncio.run_coroutine_threadsafe(lifespan.begin(), loop).result(), leave
