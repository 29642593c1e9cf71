"""The effect of signals on the server.

SIGTERM and SIGINT drain and end. A second one ends at once, with the code that stands for it (128 +
its number). SIGHUP deploys. But if it comes because the terminal has gone, it ends the server like
the others. If it was ignored when we were started, as by nohup(1), it stays ignored.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from headway.core import forks
from headway.protocol.process import logs

log = logging.getLogger(__name__)

Value = TypeVar("Value")

# A signal to a process group reaches us twice if make, or a shell, passes it on as well.
SAME_SIGNAL_S = 0.05
# Seconds that handlers registered with atexit may take.
EXIT_S = 3.0
TO_END = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (*TO_END, signal.SIGHUP)


class Signals:
    """The signals that came."""

    def __init__(self) -> None:
        self._at = 0.0
        self._end = asyncio.Event()
        self._news = asyncio.Event()
        # Whether a SIGHUP came that nobody has acted on yet.
        self._deploy = False
        self._terminal = next((fd for fd in range(3) if os.isatty(fd)), None)
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._numbers = TO_END if ignored else SIGNALS
        forks.own_signals(self._numbers)

    @property
    def to_end(self) -> bool:
        """Whether the server has to end."""
        return self._end.is_set()

    def listen_early(self) -> None:
        """Note signals before there is a loop. Let in those since the previous program's ``hold``."""
        self.note()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def listen(self) -> None:
        """Have the running loop note signals."""
        loop = asyncio.get_running_loop()
        for number in self._numbers:
            loop.add_signal_handler(number, self.signal, number)

    async def hold(self) -> None:
        """Let later signals wait for the next program. Note earlier ones."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        # The loop notes earlier signals with its next turn.
        for _ in range(2):
            await asyncio.sleep(0)

    def note(self) -> None:
        """Note signals without the loop, which has ended: other threads of the process do not block them."""
        for number in self._numbers:
            signal.signal(number, lambda number, _: self.signal(number))

    def pass_on(self) -> None:
        """Have the signals that were noted and not acted on wait for the next program, too. It is executed now."""
        this = threading.get_ident()
        if this == threading.main_thread().ident:
            for number in TO_END:
                # One that another thread gets from here on ends the process. Otherwise it would be lost.
                signal.signal(number, signal.SIG_DFL)
        if self.to_end:
            signal.pthread_kill(this, signal.SIGTERM)
        if self._deploy:
            signal.pthread_kill(this, signal.SIGHUP)

    def signal(self, number: int) -> None:
        """Take a signal. A second one to end ends at once, unless it is the first by another way."""
        hung_up = self._terminal is not None and not os.isatty(self._terminal)
        if number == signal.SIGHUP and not hung_up:
            self._deploy = True
        elif not self.to_end:
            self._at = time.monotonic()
            self._end.set()
        elif time.monotonic() - self._at > SAME_SIGNAL_S:
            log.warning("second signal: ending at once")
            end(128 + number)
        self._news.set()

    async def wait(self) -> None:
        """Wait until there is something to do."""
        await self._news.wait()
        self._news.clear()

    def take_deploy(self) -> bool:
        """Whether to deploy. A request to deploy counts once, and not if the server has to end."""
        deploy, self._deploy = self._deploy, False
        return deploy and not self.to_end

    async def unless_end(self, coroutine: Coroutine[Any, Any, Value]) -> Value | None:
        """Await ``coroutine``. If the server has to end before, cancel it and return None."""
        doing = asyncio.create_task(coroutine)
        ending = asyncio.create_task(self._end.wait())
        await asyncio.wait({doing, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if self.to_end:
            doing.cancel()
            await asyncio.wait({doing})
            return None
        return doing.result()


def leave(then: Callable[[], NoReturn]) -> NoReturn:
    """Run the handlers of atexit, EXIT_S at most. Then ``then`` ends or replaces the program.

    Python's own way to end would wait for threads that tasks may never return from.
    """
    timer = threading.Timer(EXIT_S, _leave_late, [then])
    timer.daemon = True
    timer.start()
    # These two wait for the processes that tasks have left, however long. So they come last.
    of_pools = getattr(sys.modules.get("concurrent.futures.process"), "_python_exit", None)
    of_processes = getattr(sys.modules.get("multiprocessing.util"), "_exit_function", None)
    if of_processes is not None:
        atexit.unregister(of_processes)
    for exits in (atexit._run_exitfuncs, of_pools, of_processes):
        with contextlib.suppress(Exception):
            if exits is not None:
                exits()
    timer.cancel()
    then()


def _leave_late(then: Callable[[], NoReturn]) -> NoReturn:
    log.warning("the atexit handlers of task modules take longer than %g s: the server does not wait for them", EXIT_S)
    then()


def end(code: int) -> NoReturn:
    """End the process without waiting for threads that tasks may never return from."""
    flush()
    os._exit(code)


def flush() -> None:
    """Write out everything logged and printed, 2 x FLUSH_S at most. Drop the rest."""
    logs.flush()
    # In a thread: its flush waits if nobody reads the file, or if another thread writes to it.
    with contextlib.suppress(RuntimeError):
        flusher = threading.Thread(target=_flush_all, daemon=True)
        flusher.start()
        flusher.join(logs.FLUSH_S)


def _flush_all() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
