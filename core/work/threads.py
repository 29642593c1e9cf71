"""Threads in which plain functions run.

A thread cannot be stopped: one whose attempt is over goes on, and is *lost* until its function returns. How many there
may be, the lost ones included, is a limit of the queue: a call that is made here has its thread at once.

A thread that is idle keeps nothing of its last call: no argument, result, exception or context.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context as Variables
from queue import SimpleQueue
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Call(Generic[Answer]):
    """A function that runs in a thread. ``answer`` gets what it returns, never None; it must not raise."""

    __slots__ = ("answer", "on_return", "runs")

    def __init__(self, answer: asyncio.Future[Answer]) -> None:
        self.answer = answer
        # True until the function has returned, whoever still waits for it.
        self.runs = True
        # Called then, if the thread was lost.
        self.on_return: Callable[[], object] | None = None


class Threads:
    """All threads of a loop, on which every method is called."""

    def __init__(self) -> None:
        # Threads whose attempt is over but which have not returned.
        self.lost = 0
        # Those that wait for a call, the one that worked last at the end.
        self._idle: list[Thread] = []
        self._started = 0
        self._stopped = False

    def start(
        self, loop: asyncio.AbstractEventLoop, function: Callable[[], Answer], variables: Variables
    ) -> Call[Answer]:
        """Run ``function`` in a thread, with ``variables`` for its context; raises RuntimeError where there is none."""
        call = Call[Answer](loop.create_future())
        thread = self._idle.pop() if self._idle else self._new_thread()

        def work() -> None:
            answer: Answer | None = None
            try:
                answer = variables.run(function)
            finally:
                # Where the loop is closed nobody waits any more.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._returned, call, answer, thread)

        thread.do(work)
        return call

    def lose(self, call: Call[Answer], on_return: Callable[[], object]) -> None:
        """Count the thread of ``call`` as lost until its function returns; then call ``on_return``."""
        self.lost += 1
        call.on_return = on_return

    def stop(self) -> None:
        """Let idle threads end; those that run end when their function returns, and are not waited for."""
        self._stopped = True
        while self._idle:
            self._idle.pop().do(lambda: True)

    def _new_thread(self) -> Thread:
        self._started += 1
        return Thread(self._started)

    def _returned(self, call: Call[Answer], answer: Answer | None, thread: Thread) -> None:
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
        """Have an idle thread call ``work``; it ends if that returns true."""
        self._work = work
        self._wake.put(None)

    def _serve(self) -> None:
        ended: object = False
        while not ended:
            # A job can have an exception raised in its thread (PyThreadState_SetAsyncExc) which comes too late. What
            # is to be done lies where it is found again after that.
            with suppress(BaseException):
                if self._work is None:
                    self._wake.get()
                work, self._work = self._work, None
                ended = work is not None and work()
            # Or it would be kept until the next call.
            work = None
