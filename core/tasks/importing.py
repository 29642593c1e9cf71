"""The import of a task module, which ends neither the program nor a check of it without a line.

While a module is imported, ``os._exit`` raises in the thread that imports: otherwise a check before a
deploy would end with the code that the module likes. It does what it does everywhere else: in other
threads, in a process that the module forks, and later. A KeyboardInterrupt that the module raises is
told from that of a SIGINT.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class EndedError(BaseException):
    """A module would have ended the program. No ``except Exception`` of a library's catches it."""


@contextmanager
def importing() -> Iterator[Callable[[], bool]]:
    """Import within this. What it gives tells whether there was a SIGINT."""
    real, here = os._exit, (os.getpid(), threading.get_ident())
    imports, interrupted = True, False

    def leave(status: int) -> NoReturn:
        if imports and here == (os.getpid(), threading.get_ident()):
            raise EndedError(f"os._exit({status}), which would end the program")
        real(status)

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.default_int_handler(number, frame)

    # Anything else is a handler of ours, or of a program that imports us. Only the main thread may set one.
    watched = signal.getsignal(signal.SIGINT) is signal.default_int_handler and (
        threading.current_thread() is threading.main_thread()
    )
    os._exit = leave
    try:
        if watched:
            signal.signal(signal.SIGINT, interrupt)
        yield lambda: interrupted
    finally:
        imports = False
        if os._exit is leave:
            os._exit = real
        if watched and signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
