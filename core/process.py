"""One worker process, seen from the loop: its start, its two pipes, its end.

It is a new Python (see interpreter) in a session of its own, which inherits two pipe ends. They are read and written as
the loop finds them ready: no thread.

What a process said before it died counts: the pipe is read to its end before a call is given up as crashed. And a call
that it had not read whole by then never began: it is answered None, and can be made elsewhere at no cost to the job.

A death is seen by the pipe closing; where a program that a task has started holds the pipe open, within LOOK_S.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

import msgspec
from headway.core import messages
from headway.core.interpreter import how_it_ended, start
from headway.core.messages import FATAL, LENGTH, Broken, Done, Failed, Progress, Ready

log = logging.getLogger(__name__)

# Bytes read at once: what a pipe holds.
READ_BYTES = 1 << 16
# Seconds between two looks at whether a process has ended; and once its pipe is closed.
LOOK_S = 0.25
LOOK_SOON_S = 0.002
# Seconds that dying may take from there on.
DYING_S = 0.1
# Seconds after which a process that was told to leave is killed.
LEAVE_S = 2.0


class CrashedError(Exception):
    """The process died with the job in it. ``stack`` is where it crashed, if Python could tell."""

    def __init__(self, how: str, stack: str = "") -> None:
        super().__init__(f"its worker process {how}")
        self.stack = stack


class Owner(Protocol):
    """Who is told what becomes of a process."""

    def ready(self, process: Process) -> None:
        """It can be called."""

    def free(self, process: Process) -> None:
        """It has answered."""

    def ended(self, process: Process) -> None:
        """It is no more."""


class Process:
    """One worker process."""

    def __init__(self, owner: Owner, modules: tuple[str, ...], result_bytes: int) -> None:
        self._owner = owner
        self._given: dict[str, object] = {"modules": modules, "result_bytes": result_bytes}
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._looker: asyncio.Handle | None = None
        self._hung_up = False
        self._read_fd = self._write_fd = -1
        self._received = bytearray()
        # No frame that it sends is longer; so text, written where frames should be, is not taken for the length of one.
        self._most_bytes = min(result_bytes, messages.BODY_MOST) + messages.FRAME_BYTES
        # What the pipe did not take yet.
        self._unsent = memoryview(b"")
        # The call that runs: its number, who hears of its progress, and its answer.
        self._number = 0
        self._report: Callable[[int], None] | None = None
        self._answer: asyncio.Future[Done | Failed | None] | None = None
        self.was_ready = False
        # Calls it was given, and the memory that it took after the last that it answered.
        self.calls = 0
        self.memory_bytes = 0
        # True once another is to take its place.
        self.leaving = False
        self._doomed = False
        self.ended = False
        # How it ended, for people; and by which signal or code.
        self.how = ""
        self.returncode: int | None = None

    def __repr__(self) -> str:
        state = "ended" if self.ended else "leaving" if self.leaving else "ready" if self.was_ready else "starting"
        return f"<Process {self.pid} {state}, {self.calls} calls>"

    @property
    def pid(self) -> int:
        """Its process id; 0 before there is one."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start the process. The owner is told when it is ready and when it has ended, which it may have already."""
        try:
            self._spawn()
        except OSError as error:
            self.how = f"cannot be started: {error}"
            self._end()
        else:
            self._loop.add_reader(self._read_fd, self._read)
            self._looker = self._loop.call_later(LOOK_S, self._look)

    def call(self, frame: bytes, number: int, report: Callable[[int], None]) -> asyncio.Future[Done | Failed | None]:
        """Send a call to a free process.

        The answer is None where the process ended before the call began; it raises CrashedError where it died in it.
        """
        self.calls += 1
        self._number, self._report = number, report
        self._answer = self._loop.create_future()
        self._unsent = memoryview(frame)
        self._write()
        return self._answer

    def kill(self) -> None:
        """End the process now."""
        self.leaving = self._doomed = True
        if self._process is not None:
            self._process.kill()

    def leave(self) -> None:
        """Let a process that is not busy end by itself; kill it after LEAVE_S."""
        self.leaving = True
        self._close_write_end()
        self._loop.call_later(LEAVE_S, self.kill)

    def _spawn(self) -> None:
        with ExitStack() as theirs:
            their_read, self._write_fd = os.pipe()
            theirs.callback(os.close, their_read)
            self._read_fd, their_write = os.pipe()
            theirs.callback(os.close, their_write)
            given = self._given | {"read_fd": their_read, "write_fd": their_write}
            self._process = start("headway.core.child", given, (their_read, their_write), new_session=True)
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)

    def _look(self) -> None:
        """See whether the process has ended."""
        code = self._process.poll() if self._process else 0
        if code is None:
            self._looker = self._loop.call_later(LOOK_SOON_S if self._hung_up else LOOK_S, self._look)
            return
        self.returncode = code
        self.how = self.how or how_it_ended(code)
        while not self._hung_up and self._read():
            pass
        self._end()

    def _read(self) -> bool:
        """Take what has come; False where there was nothing."""
        try:
            data = os.read(self._read_fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._hang_up()
            return False
        received = self._received
        received += data
        while len(received) >= LENGTH.size:
            size = LENGTH.unpack_from(received)[0]
            if size > self._most_bytes and received.startswith(FATAL[: len(received)]):
                break
            end = LENGTH.size + size
            if len(received) < end and size <= self._most_bytes:
                break
            try:
                message = messages.decode(bytes(received[LENGTH.size : end]))
            except msgspec.DecodeError as error:
                received.clear()
                self._give_up(f"wrote to the server what is no message: {error}")
                break
            del received[:end]
            self._take(message)
        return True

    def _hang_up(self) -> None:
        """The other end of the pipe is closed: it is dying, as a rule."""
        self._hung_up = True
        self._loop.remove_reader(self._read_fd)
        self._loop.call_later(DYING_S, self._give_up, "has closed the server's pipe")
        if self._looker is not None:
            self._looker.cancel()
            self._looker = self._loop.call_soon(self._look)

    def _give_up(self, how: str) -> None:
        """Be rid of a process that a task has made unusable, by using file descriptors that it did not open."""
        if not self.ended:
            self.how = self.how or how
            self.kill()

    def _take(self, message: messages.FromChild) -> None:
        if isinstance(message, Done | Failed):
            answer, self._answer = self._answer, None
            self.memory_bytes = message.memory_bytes
            if answer is not None and not answer.done():
                answer.set_result(message)
            if not self._doomed:
                self._owner.free(self)
        elif isinstance(message, Progress):
            if self._answer is not None and message.number == self._number and self._report is not None:
                self._report(message.percent)
        elif isinstance(message, Ready):
            self.was_ready = True
            if not self.leaving:
                self._owner.ready(self)
        elif isinstance(message, Broken):
            self.how = message.error

    def _write(self) -> None:
        """Send what the pipe takes, and the rest when it takes more."""
        try:
            self._unsent = self._unsent[os.write(self._write_fd, self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            # It is dead, which is seen when it is reaped. What is unsent says that the call did not begin.
            self._loop.remove_writer(self._write_fd)
            return
        if self._unsent:
            self._loop.add_writer(self._write_fd, self._write)
        else:
            self._loop.remove_writer(self._write_fd)

    def _began(self) -> bool:
        """Whether the process had read its call when it died."""
        if self._unsent:
            return False
        # A pipe keeps what was not read for as long as one of its ends is open.
        unread = fcntl.ioctl(self._write_fd, termios.FIONREAD, bytes(4))
        return int.from_bytes(unread, sys.byteorder) == 0

    def _end(self) -> None:
        if self._looker is not None:
            self._looker.cancel()
            self._looker = None
        self.ended = self.leaving = True
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            if self._began():
                stack = self._received.decode(errors="replace") if self._received.startswith(FATAL) else ""
                answer.set_exception(CrashedError(self.how, stack))
            else:
                answer.set_result(None)
        self._close_write_end()
        if self._read_fd >= 0:
            self._loop.remove_reader(self._read_fd)
            os.close(self._read_fd)
            self._read_fd = -1
        self._owner.ended(self)

    def _close_write_end(self) -> None:
        if self._write_fd >= 0:
            self._loop.remove_writer(self._write_fd)
            os.close(self._write_fd)
            self._write_fd = -1
