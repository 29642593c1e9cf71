"""Threads in which plain functions run.

A thread cannot be stopped. After the end of its attempt it goes on, and is *lost* until its
function returns. A limit of the queue bounds all threads, the lost ones included. So a call that is
made here has its thread at once.

An idle thread keeps nothing of its last call: no argument, result, exception or context.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context as Variables
from queue import SimpleQueue
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ThreadCall(Generic[Value]):
    """A function that runs in a thread. It must not raise. ``answer`` gets its result, never None."""

    __slots__ = ("answer", "on_return", "runs")

    def __init__(self, answer: asyncio.Future[Value]) -> None:
        self.answer = answer
        # True until the function has returned, even if nobody waits for it.
        self.runs = True
        # Called then, if the thread was lost.
        self.on_return: Callable[[], object] | None = None


class Threads:
    """All threads of a loop. Call every method on that loop."""

    def __init__(self) -> None:
        # Threads whose attempt has ended and whose function has not returned.
        self.lost = 0
        # Threads that wait for a call. The last one to work is at the end.
        self._idle: list[Thread] = []
        self._started = 0
        self._stopped = False

    def start(
        self, loop: asyncio.AbstractEventLoop, function: Callable[[], Value], variables: Variables
    ) -> ThreadCall[Value]:
        """Run ``function`` in a thread, in the context ``variables``.

        Raises RuntimeError if no thread can be started.
        """
        call = ThreadCall[Value](loop.create_future())
        thread = self._idle.pop() if self._idle else self._new_thread()

        def work() -> None:
            answer: Value | None = None
            try:
                answer = variables.run(function)
            finally:
                # On a closed loop nobody waits any more.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._returned, call, answer, thread)

        thread.do(work)
        return call

    def lose(self, call: ThreadCall[Value], on_return: Callable[[], object]) -> None:
        """Count the thread of ``call`` as lost until its function returns. Then call ``on_return``."""
        self.lost += 1
        call.on_return = on_return

    def stop(self) -> None:
        """Let idle threads end. Those that run end when their function returns; nobody waits for them."""
        self._stopped = True
        while self._idle:
            self._idle.pop().do(lambda: True)

    def _new_thread(self) -> Thread:
        self._started += 1
        return Thread(self._started)

    def _returned(self, call: ThreadCall[Value], answer: Value | None, thread: Thread) -> None:
        call.runs = False
        if self._stopped:
            thread.do(lambda: True)
        else:
            self._idle.append(thread)
        if not call.answer.done():
            if answer is None:
                call.answer.set_exception(RuntimeError("its thread was interrupted"))
            else:
                call.answer.set_result(answer)
        if call.on_return is not None:
            self.lost -= 1
            call.on_return()


class Thread:
    """One thread, which does a call at a time."""

    __slots__ = ("_wake", "_work")

    def __init__(self, number: int) -> None:
        self._work: Callable[[], object] | None = None
        self._wake: SimpleQueue[None] = SimpleQueue()
        # A daemon: a lost one does not keep the process from ending.
        threading.Thread(target=self._serve, name=f"headway-task-{number}", daemon=True).start()

    def do(self, work: Callable[[], object]) -> None:
        """Have an idle thread call ``work``. It ends if that returns true."""
        self._work = work
        self._wake.put(None)

    def _serve(self) -> None:
        ended: object = False
        while not ended:
            # A job can raise an exception in its thread (PyThreadState_SetAsyncExc) that comes too
            # late. The work lies where the thread finds it again after that.
            with suppress(BaseException):
                if self._work is None:
                    self._wake.get()
                work, self._work = self._work, None
                ended = work is not None and work()
            # Otherwise it would be kept until the next call.
            work = None
