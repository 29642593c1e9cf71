"""The output of a worker process: while a job runs, all that goes to stdout and stderr is its log.

The two descriptors lead to a pipe of the server's then, also for programs that the job starts and
for code in C. Between jobs they lead to another pipe, whose text is of no job. The server reads both
whatever the process does. So nobody here has to read, and a writer in C that keeps the interpreter
does not wait for itself.

The next job gets another pipe if a program was started, since that may still write to the one of its job. A thread
that goes on after its job writes by ``sys.stdout`` to the pipe of no job. What it writes to the descriptors themselves
cannot be told from the text of the job that runs: a process has one descriptor 1.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from io import BufferedWriter, RawIOBase, TextIOWrapper
from typing import TYPE_CHECKING

from headway.core import forks
from headway.core.processes import ends
from headway.core.processes.threads import JobThreads

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

OUT, ERR = 1, 2


class Output:
    """The way of stdout and stderr to the server. Pipes for jobs come through ``ends_fd``."""

    def __init__(self, ends_fd: int, threads: JobThreads) -> None:
        self._ends = forks.keep(ends_fd)
        os.set_inheritable(ends_fd, False)
        self._threads = threads
        self._usual = [(number, forks.keep(_copy(number))) for number in (OUT, ERR)]
        # The pipe of the job that runs, always by this number. That of no job before the first one.
        self._fd = forks.keep(_copy(OUT))
        self._is_wanted = True
        # The page faults of the children that have ended.
        self._faults = 0
        self._flush_c = _flush_of_c()
        out = sys.stdout = sys.__stdout__ = self._by_thread(sys.stdout, self._usual[0][1])  # type: ignore[misc]
        error = sys.stderr = sys.__stderr__ = self._by_thread(sys.stderr, self._usual[1][1])  # type: ignore[misc]
        self._streams = [stream for stream in (out, error) if stream is not None]

    def begin(self) -> None:
        """Have all output go to the log of a job."""
        self._flush()
        self._threads.begin()
        if self._is_wanted:
            end = ends.take(self._ends)
            self._is_wanted = end < 0
            if end >= 0:
                os.dup2(end, self._fd, inheritable=False)
                os.close(end)
        # A job may have closed descriptors that it did not open.
        with suppress(OSError):
            for number in (OUT, ERR):
                os.dup2(self._fd, number)

    def end(self) -> bool:
        """Bring all output of the job to its log, and have further output go to that of no job.

        Return whether a program may have the pipe of the job. Then the next one comes from the server.
        """
        self._flush()
        with suppress(OSError):
            for number, usual in self._usual:
                os.dup2(usual, number)
        self._is_wanted |= self._has_started()
        if self._is_wanted:
            os.dup2(self._usual[0][1], self._fd, inheritable=False)
        return self._is_wanted

    def write(self, text: bytes) -> None:
        """Write to the log of the job."""
        _write_all(self._fd, text)

    def _has_started(self) -> bool:
        """Whether this process has a child, or had one since the last look.

        A child that has ended counts by its page faults, which any program has, also where code in C has started it.
        Those of children that nobody waits for do not count.
        """
        before, self._faults = self._faults, resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
        if self._faults != before or signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN or not hasattr(os, "waitid"):
            return True
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def _by_thread(self, stream: object, usual: int) -> TextIOWrapper | None:
        """Return a stream like ``stream`` in which the text of foreign threads goes to ``usual``."""
        if not isinstance(stream, TextIOWrapper):
            return None
        encoding, errors = stream.encoding, stream.errors
        buffer = stream.detach()
        if isinstance(buffer, RawIOBase):
            # Without a buffer, as by PYTHONUNBUFFERED.
            return _Text(_Bytes(buffer, self._threads, usual, at_once=True), encoding, errors, at_once=True)
        return _Text(_Bytes(buffer.detach(), self._threads, usual), encoding, errors)

    def _flush(self) -> None:
        for stream in self._streams:
            # A job may have closed or broken them.
            with suppress(Exception):
                TextIOWrapper.flush(stream)
        self._flush_c()


class _Bytes(BufferedWriter):
    """The bytes of stdout or stderr."""

    def __init__(self, raw: RawIOBase, threads: JobThreads, usual: int, *, at_once: bool = False) -> None:
        super().__init__(raw)
        self.threads = threads
        self._usual = usual
        self._at_once = at_once

    def write(self, data: ReadableBuffer, /) -> int:
        """Write to the log of the job, or of no job."""
        if self.threads.is_foreign():
            return _write_all(self._usual, bytes(data))
        count = super().write(data)
        if self._at_once:
            self.flush()
        return count


class _Text(TextIOWrapper):
    """The text of stdout or stderr."""

    def __init__(self, buffer: _Bytes, encoding: str, errors: str | None, *, at_once: bool = False) -> None:
        # Each line is written as it is printed, and whole, though several threads print.
        super().__init__(buffer, encoding, errors, line_buffering=True, write_through=at_once)
        self._bytes = buffer
        self.mode = "w"  # type: ignore[misc]

    def write(self, text: str, /) -> int:
        """Write to the log of the job, or of no job."""
        if self._bytes.threads.is_foreign():
            self._bytes.write(text.encode(self.encoding, self.errors or "strict"))
            return len(text)
        return super().write(text)

    def flush(self) -> None:
        """Write what is gathered, which is of the job."""
        if not self._bytes.threads.is_foreign():
            super().flush()


def _write_all(fd: int, text: bytes) -> int:
    unwritten = memoryview(text)
    while unwritten:
        unwritten = unwritten[os.write(fd, unwritten) :]
    return len(text)


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
