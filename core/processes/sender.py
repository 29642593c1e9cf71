"""The end of the pipe to the server in a worker process.

Any thread may write to it. A forked child has none.

Progress is coalesced: a thread sends the latest report of a task only, at most every PROGRESS_S.
Log records are sent as they come. If they are more than the server takes, the pipe is full, and the
thread that logs waits.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from contextlib import suppress

from headway.core import forks, records
from headway.core.processes import frames
from headway.core.processes.frames import Message
from headway.core.processes.messages import CREATED_BEFORE, Call, Log, Progress
from headway.core.processes.threads import JobThreads

# Seconds between two reports of progress.
PROGRESS_S = 0.05
# Characters of a logger's name that are sent.
NAME_LONGEST = 200


class Sender:
    """Our end of the pipe to the server."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        # Frames, each with the raw bytes after it. A finalizer or a handler of signals may log
        # while its own thread sends. Then ``_sending`` is true, and that record is sent next.
        self._unsent: deque[list[bytes]] = deque()
        self._sending = False
        self._lock = threading.RLock()
        # The latest report of a task that is not sent yet.
        self._pending: Progress | None = None
        self._news = threading.Event()
        self._forwarder: threading.Thread | None = None

    def send(self, message: Message, body: bytes = b"") -> None:
        """Send a message and the bytes after it. Return when the pipe has taken them."""
        if forks.forked:
            return
        self._unsent.append(frames.parts(message, body))
        with self._lock:
            if self._sending:
                return
            self._sending = True
            try:
                while self._unsent:
                    for data in self._unsent.popleft():
                        self._write(data)
            finally:
                self._sending = False

    def report(self, progress: Progress) -> None:
        """Let the thread send the latest progress soon."""
        self._pending = progress
        if self._forwarder is None:
            self._forwarder = threading.Thread(target=self._forward, name="headway-progress", daemon=True)
            self._forwarder.start()
        self._news.set()

    def flush(self) -> None:
        """Send the pending progress."""
        progress, self._pending = self._pending, None
        if progress is not None:
            self.send(progress)

    def _forward(self) -> None:
        while self._news.wait():
            self._news.clear()
            self.flush()
            time.sleep(PROGRESS_S)

    def _write(self, data: bytes) -> None:
        unsent = memoryview(data)
        try:
            while unsent:
                unsent = unsent[os.write(self._fd, unsent) :]
        except BrokenPipeError:
            os._exit(1)


class ToServer(logging.Handler):
    """Sends log records to the server, with the job that runs, unless they are of a thread of an earlier one."""

    def __init__(self, sender: Sender, threads: JobThreads) -> None:
        super().__init__()
        self._sender = sender
        self._threads = threads
        self.call: Call | None = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Send a record, without the lock of a handler.

        A ``__str__`` that waits would keep that lock from other threads.
        """
        if self.filter(record):
            self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        message, stack = records.message(record), records.stack(record)
        name = records.cut(str(record.name), NAME_LONGEST)
        if forks.forked:
            with suppress(OSError):
                text = "\n".join(filter(None, (f"{record.levelname} {name}: {message}", stack)))
                os.write(2, f"{text}\n".encode())
            return
        call = None if self._threads.is_foreign() else self.call
        self._sender.send(
            Log(
                logger=name,
                level=int(record.levelno),
                # A task may have made the record.
                created=record.created if 0 <= record.created < CREATED_BEFORE else time.time(),
                message=message,
                stack=stack,
                job_id="" if call is None else call.job_id,
                task="" if call is None else call.task,
                attempt=0 if call is None else call.attempt,
            )
        )

    def close(self) -> None:
        """Do nothing: ``logging.config`` closes all handlers it finds, and this one goes on."""
