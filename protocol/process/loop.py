"""The event loop: one for the server and all coroutines of its jobs. Only the server stops it.

A job must not end it. If a job calls a method that stops or changes the loop for all, the method
raises RuntimeError. An error in a task or callback that a job made ends only that task or callback.
But asyncio lets SystemExit and KeyboardInterrupt out of the loop. Then the loop goes on at the
point where it stopped: nothing that was ready is lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

import uvloop
from headway.core.running import RUNNING, hide_tasks
from headway.protocol.process.timers import FAR_S, NEAR_S, Timers

log = logging.getLogger(__name__)

Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")


class Loop(uvloop.Loop):
    """A loop that jobs cannot stop or change. Timers that are due at about the same time share one of libuv's."""

    def __init__(self) -> None:
        super().__init__()
        self._timers = Timers(self, super().call_later)

    def call_later(
        self, delay: float, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Have ``callback`` called after ``delay`` seconds, or up to TOGETHER_S later."""
        if NEAR_S <= delay < FAR_S:
            return self._timers.add(delay, callback, args, context)
        return super().call_later(delay, callback, *args, context=context)

    def stop(self) -> None:
        """Stop. Not for jobs."""
        _not_for_jobs("stop")
        super().stop()

    def close(self) -> None:
        """Close. Not for jobs."""
        _not_for_jobs("close")
        super().close()

    def set_task_factory(self, factory: Any) -> None:
        """Decide how tasks are made. Not for jobs."""
        _not_for_jobs("set_task_factory")
        super().set_task_factory(factory)

    def set_exception_handler(self, handler: Any) -> None:
        """Decide how errors in callbacks are handled. Not for jobs."""
        _not_for_jobs("set_exception_handler")
        super().set_exception_handler(handler)

    def set_default_executor(self, executor: Any) -> None:
        """Decide where ``asyncio.to_thread`` runs. Not for jobs."""
        _not_for_jobs("set_default_executor")
        super().set_default_executor(executor)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 — asyncio's own
        """End the threads of ``asyncio.to_thread``. Not for jobs."""
        _not_for_jobs("shutdown_default_executor")
        await super().shutdown_default_executor(timeout)

    async def shutdown_asyncgens(self) -> None:
        """Close all asynchronous generators. Not for jobs."""
        _not_for_jobs("shutdown_asyncgens")
        await super().shutdown_asyncgens()

    def add_signal_handler(self, sig: int, callback: Callable[[*Arguments], object], *args: *Arguments) -> None:
        """Have a signal handled. Not for jobs."""
        _not_for_jobs("add_signal_handler")
        super().add_signal_handler(sig, callback, *args)

    def remove_signal_handler(self, sig: int) -> bool:
        """Have a signal no longer handled. Not for jobs."""
        _not_for_jobs("remove_signal_handler")
        return super().remove_signal_handler(sig)


def _not_for_jobs(method: str) -> None:
    if RUNNING.get() is not None:
        raise RuntimeError(f"loop.{method}: the event loop belongs to the server and to all jobs")


def run_to_its_end(main: Coroutine[Any, Any, Value]) -> Value:
    """Run ``main`` on a new loop and return its result, even if something else stops the loop."""
    # Not uvloop.run, which would wait for tasks that ignore their cancellation.
    loop = Loop()
    asyncio.set_event_loop(loop)
    hide_tasks(loop)
    running = loop.create_task(main)
    while not running.done():
        try:
            loop.run_until_complete(running)
        except BaseException as error:
            if not running.done():
                log.error("a job stopped the event loop, which goes on: %s", type(error).__name__, exc_info=error)
                loop.call_soon(_look_for_signals)
    return running.result()


def _look_for_signals() -> None:
    """Have the loop act on signals that came while it stood. Nothing else wakes it for them."""
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    if wakeup >= 0:
        os.write(wakeup, b"\0")
