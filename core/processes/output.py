"""The output of a worker process: while a job runs, all that goes to stdout and stderr is its log.

The two descriptors lead to a pipe of the server's then, also for programs that the job starts and
for code in C. Between jobs they lead where those of the server do. The server reads the pipe whatever
the process does. So nobody here has to read, and a writer in C that keeps the interpreter does not
wait for itself.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from headway.core import forks

OUT, ERR = 1, 2


class Output:
    """The way of stdout and stderr to the server, through ``fd``."""

    def __init__(self, fd: int) -> None:
        self._fd = forks.keep(fd)
        os.set_inheritable(fd, False)
        self._usual = [(number, forks.keep(_copy(number))) for number in (OUT, ERR)]
        self._flush_c = _flush_of_c()

    def begin(self) -> None:
        """Have all output go to the log of a job."""
        self._flush()
        # A job may have closed descriptors that it did not open.
        with suppress(OSError):
            for number in (OUT, ERR):
                os.dup2(self._fd, number)

    def end(self) -> None:
        """Bring all output of the job to its log, and have further output go where that of the server goes."""
        self._flush()
        with suppress(OSError):
            for number, usual in self._usual:
                os.dup2(usual, number)

    def write(self, text: bytes) -> None:
        """Write to the log of the job."""
        unwritten = memoryview(text)
        while unwritten:
            unwritten = unwritten[os.write(self._fd, unwritten) :]

    def _flush(self) -> None:
        # A job may have closed or broken them.
        for stream in (sys.__stdout__, sys.__stderr__):
            with suppress(Exception):
                if stream is not None:
                    stream.flush()
        self._flush_c()


def _copy(fd: int) -> int:
    """Return a copy of a descriptor, or one that leads nowhere if there is no such descriptor."""
    try:
        # Not at the place of another that is closed.
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ERR + 1)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            return fcntl.fcntl(nowhere, fcntl.F_DUPFD_CLOEXEC, ERR + 1)
        finally:
            os.close(nowhere)


def _flush_of_c() -> Callable[[], object]:
    """Return a function that flushes the stdout of C, which has no lines in a pipe."""
    try:
        library = ctypes.CDLL(None)
        stream = ctypes.c_void_p.in_dll(library, "__stdoutp" if sys.platform == "darwin" else "stdout")
    except (OSError, ValueError):
        return lambda: None
    flush = library.fflush
    return lambda: flush(stream)
