"""Threads in which plain functions run. A thread cannot be stopped: one whose attempt is over goes on, and is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Threads:
    """At most ``most`` threads, the lost ones included."""

    def __init__(self, most: int) -> None:
        # Threads whose attempt is over but which have not returned.
        self.lost = 0
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="headway-task")

    async def run(self, call: Callable[[], object]) -> object:
        """Run ``call`` in a thread; if this is cancelled while the thread runs, the thread is lost."""
        thread = self._pool.submit(_without_stop_iteration, call)
        try:
            return await asyncio.wrap_future(thread)
        except asyncio.CancelledError:
            if not thread.cancelled() and not thread.done():
                self.lost += 1
                loop = asyncio.get_running_loop()
                thread.add_done_callback(lambda _: loop.call_soon_threadsafe(self._found))
            raise

    def stop(self) -> None:
        """Begin no more calls; those that run are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _found(self) -> None:
        self.lost -= 1


def _without_stop_iteration(call: Callable[[], object]) -> object:
    """Run ``call``; a future cannot carry StopIteration."""
    try:
        return call()
    except StopIteration as error:
        raise RuntimeError("the task raised StopIteration") from error
