"""The reports of an attempt, from any thread to the loop: progress, a message, text for the job's log.

On the loop a report takes effect at once. Another thread leaves it here, and the loop takes all of
it at most every TAKE_S. So a thread that reports a million times wakes the loop twenty times a
second. Of its text no more is kept meanwhile than a log keeps. The loop never waits for a thread.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from contextvars import Context as Variables
from threading import Lock, get_ident
from typing import Protocol

from headway.core.log_text import LogText

# Seconds between two looks of the loop.
TAKE_S = 0.05
# Seconds after which it looks again if a thread is just leaving a report, and how long it waits for
# one at the end of the attempt.
AGAIN_S = 0.001


class Receiver(Protocol):
    """The receiver of reports, on the loop."""

    # The most bytes of a log.
    log_bytes: int
    # By the number of a job: the reports of other threads.
    reports: dict[int, Reports]

    def progressed(self, sequence: int, attempt: int, percent: int, message: str) -> None:
        """Show the progress of a running attempt."""

    def write(self, sequence: int, attempt: int, text: bytes, skipped: int = 0) -> None:
        """Add text to the log of a job, after ``skipped`` bytes that were not kept."""


class Reports:
    """Reports of one attempt. Made on the loop."""

    __slots__ = (
        "_attempt",
        "_is_due",
        "_lock",
        "_loop",
        "_progress",
        "_receiver",
        "_sequence",
        "_taken",
        "_taken_at",
        "_text",
        "_thread",
    )

    def __init__(self, receiver: Receiver, sequence: int, attempt: int, loop: asyncio.AbstractEventLoop) -> None:
        self._receiver = receiver
        self._sequence = sequence
        self._attempt = attempt
        self._loop = loop
        self._thread = get_ident()
        # Of other threads. Text has its place since the beginning of the attempt.
        self._lock = Lock()
        self._progress: tuple[int, str] | None = None
        self._text: LogText | None = None
        # The place after the text that was taken.
        self._taken = 0
        # Whether the loop is about to take them, and when it did last, of time.monotonic.
        self._is_due = False
        self._taken_at = 0.0

    def progress(self, percent: int, message: str) -> None:
        """Report progress, and a message."""
        if get_ident() == self._thread:
            self._receiver.progressed(self._sequence, self._attempt, percent, message)
            return
        with self._lock:
            self._progress = percent, message
            self._wake()

    def write(self, text: bytes) -> None:
        """Report text."""
        if get_ident() == self._thread:
            self._receiver.write(self._sequence, self._attempt, text)
            return
        with self._lock:
            if self._text is None:
                self._text = LogText(self._receiver.log_bytes)
            self._text.add(0, text)
            self._wake()

    def finish(self) -> None:
        """Take all that was reported. The attempt has ended."""
        if self._lock.acquire(timeout=AGAIN_S):
            self._take()

    def _wake(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._receiver.reports[self._sequence] = self
            # The loop may have ended before a thread that was given up. Not in the context of the job,
            # which would be kept.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._look, context=Variables())

    def _look(self) -> None:
        delay = self._taken_at + TAKE_S - time.monotonic()
        if delay > 0:
            self._loop.call_later(delay, self._look)
        elif self._lock.acquire(blocking=False):
            self._take()
        else:
            self._loop.call_later(AGAIN_S, self._look)

    def _take(self) -> None:
        """Deliver the reports, and release the lock before that."""
        self._is_due = False
        progress, self._progress = self._progress, None
        pieces = [] if self._text is None else self._text.take()
        self._lock.release()
        self._taken_at = time.monotonic()
        if progress is not None:
            self._receiver.progressed(self._sequence, self._attempt, *progress)
        for place, text in pieces:
            if place + len(text) > self._taken:
                self._receiver.write(self._sequence, self._attempt, text, skipped=place - self._taken)
            self._taken = place + len(text)
