"""One worker process, seen from the loop: its start, its two pipes, its end.

It is a new Python (see spawn) in a session of its own, which inherits the ends of its pipes. They are
read and written as the loop finds them ready, without a thread.

Answers that a process wrote before it died count: the pipe is read to its end before a call is
given up as crashed. A call that it had not read whole by then never began: it is answered None, and
can be made elsewhere at no cost to the job.

The pipe closes when a process dies. If a program that a task has started keeps the pipe open, the
death is seen within DEATH_LOOK_S.

However it ends, the programs that its tasks have started end with it: its whole process group is
killed. A program that must outlive it needs a session of its own.

What a job prints comes by other pipes (see outputs).

Logs come by the same pipe as answers. If they take more than their share of the loop's time, the
pipe is not read for a while: it fills, and the process waits.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import termios
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from io import BytesIO
from typing import NamedTuple, Protocol

import msgspec
from headway.core import forks
from headway.core.processes import frames, messages, orphans
from headway.core.processes.confinement import Confinement
from headway.core.processes.frames import LENGTH
from headway.core.processes.messages import FATAL, LEAVE_S, Broken, Call, Done, Failed, Log, Progress, Ready
from headway.core.processes.output_pipe import READ_BYTES
from headway.core.processes.outputs import Outputs
from headway.core.processes.spawn import how_it_ended, start

# Seconds between two looks at whether a process has ended, before and after its pipe is closed.
DEATH_LOOK_S = 0.25
DEATH_LOOK_SOON_S = 0.002
# Seconds that dying may take once its pipe is closed.
DYING_S = 0.1
# Seconds in which more of a message has to come. A task may have written to a pipe that it did not
# open: then what the process says is lost in a message that never ends.
UNFINISHED_S = 10.0
# Seconds in which the rest of its group, killed with it, has to be gone.
GROUP_S = 1.0


class Reply(NamedTuple):
    """The answer of a process to a call. ``body`` is None unless the task returned something."""

    said: Done | Failed
    body: bytes | None


class CrashedError(Exception):
    """The process died with the job in it. ``stack`` is the crash's, if Python could write it."""

    def __init__(self, how: str, stack: str = "") -> None:
        super().__init__(f"its worker process {how}")
        self.stack = stack


class Owner(Protocol):
    """The owner of a process, which hears of its events."""

    def ready(self, process: Process) -> None:
        """It can be called."""

    def free(self, process: Process) -> None:
        """It has answered."""

    def ended(self, process: Process) -> None:
        """It has ended."""

    def logged(self, process: Process, record: Log) -> float:
        """It has logged. Return after how many seconds it may log more, 0: at once."""

    def wrote(self, process: Process, text: str, is_dead: bool) -> None:
        """It wrote while no job ran. ``is_dead``: it has ended since, unasked."""

    def has_read(self, began: float) -> float:
        """Note that its output was read, since ``began``. Return after how many seconds more may be."""


class Process:
    """One worker process."""

    def __init__(
        self,
        owner: Owner,
        modules: tuple[str, ...],
        result_bytes: int,
        log_level: int,
        confinement: Confinement,
        *,
        trial: bool = False,
    ) -> None:
        self._owner = owner
        self._confinement = confinement
        self._given: dict[str, object] = {
            "modules": modules,
            "result_bytes": result_bytes,
            "log_level": log_level,
            "confinement": msgspec.to_builtins(confinement),
            "trial": trial,
        }
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._looker: asyncio.Handle | None = None
        self._hung_up = False
        self._read_fd = self._write_fd = -1
        self._most_bytes = result_bytes
        # Frames that are not taken yet, and the timer until they are if it has logged too much.
        self._received = bytearray()
        self._rest: asyncio.TimerHandle | None = None
        # A trial has the output of the server.
        self._is_trial = trial
        self._outputs = Outputs(owner.has_read, lambda text: owner.wrote(self, text, False))
        # A result that has not come whole yet, which gives its bytes away without a copy, and the
        # message before it.
        self._body = BytesIO()
        self._body_of: Done | None = None
        # Whether there was something to read since the last look, and until when the rest of a message
        # that has begun may come, of time.monotonic.
        self._has_read = False
        self._more_until = 0.0
        # Bytes that the pipe did not take yet.
        self._unsent: deque[memoryview] = deque()
        # The call that runs: its number, the receiver of its progress, and its answer.
        self._number = 0
        self._report: Callable[[int, str], None] | None = None
        self._answer: asyncio.Future[Reply | None] | None = None
        self.was_ready = False
        # Calls that it was given, and its memory after the last one that it answered.
        self.calls = 0
        self.memory_bytes = 0
        # Whether a job found no memory, or has left too little CPU time or too many pipes.
        self.is_exhausted = False
        # True once another process has to take its place.
        self.leaving = False
        self._doomed = False
        self.ended = False
        # The way it ended, for people, then its exit code, or its signal as a negative number.
        self.how = ""
        self.returncode: int | None = None

    def __repr__(self) -> str:
        state = "ended" if self.ended else "leaving" if self.leaving else "ready" if self.was_ready else "starting"
        return f"<Process {self.pid} {state}, {self.calls} calls>"

    @property
    def pid(self) -> int:
        """Its process id, 0 before it has one."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start the process.

        The owner hears when it is ready and when it has ended, which may be before this returns.
        """
        try:
            self._spawn()
        except OSError as error:
            self.how = f"cannot be started: {error}"
            self._end()
        else:
            self._loop.add_reader(self._read_fd, self._read)
            self._outputs.start()
            self._looker = self._loop.call_later(DEATH_LOOK_S, self._look)

    def call(
        self, call: Call, payload: bytes, report: Callable[[int, str], None], write: Callable[[bytes], None]
    ) -> asyncio.Future[Reply | None]:
        """Send a call to a free process. ``report`` gets its progress, and ``write`` its output.

        The answer is None if the process ended before the call began. It raises CrashedError if the
        process died in it.
        """
        self.calls += 1
        self._number, self._report = call.number, report
        self._answer = self._loop.create_future()
        self._outputs.begin(write)
        self._unsent.extend(map(memoryview, frames.parts(call, payload)))
        self._write()
        return self._answer

    def kill(self) -> None:
        """End the process now, and all that its tasks have started in its process group."""
        self.leaving = self._doomed = True
        # A reaped process has no group any longer.
        if self._process is not None and self._process.returncode is None:
            orphans.kill(self._process.pid)

    def leave(self) -> None:
        """Let a process that is not busy end by itself, and kill it after LEAVE_S."""
        self.leaving = True
        self._close_write_end()
        self._loop.call_later(LEAVE_S, self.kill)

    def _spawn(self) -> None:
        with ExitStack() as theirs:
            their_read, self._write_fd = forks.pipe()
            theirs.callback(forks.close, their_read)
            self._read_fd, their_write = forks.pipe()
            theirs.callback(forks.close, their_write)
            their_ends, output = self._outputs.open(self._is_trial)
            theirs.callback(forks.close, their_ends)
            fds = {"read_fd": their_read, "write_fd": their_write, "ends_fd": their_ends}
            self._process = start(
                "headway.core.processes.child",
                self._given | fds,
                fds.values(),
                new_session=True,
                environment=self._confinement.environment(os.environ),
                output=output,
            )
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)

    def _look(self) -> None:
        """See whether the process has ended."""
        code = self._reap() if self._process else 0
        if code is None:
            self._look_for_more()
            self._looker = self._loop.call_later(DEATH_LOOK_SOON_S if self._hung_up else DEATH_LOOK_S, self._look)
            return
        self.returncode = code
        self.how = self.how or how_it_ended(code)
        while not self._hung_up and self._read(to_the_end=True):
            pass
        self._hear_frames(to_the_end=True)
        self._end()

    def _look_for_more(self) -> None:
        """Give up a process of which the rest of a message has not come for UNFINISHED_S."""
        unfinished = (self._received or self._body_of is not None) and self._rest is None
        if not unfinished or self._has_read:
            self._more_until = time.monotonic() + UNFINISHED_S
        elif time.monotonic() > self._more_until:
            self._give_up("left a message in the server's pipe unfinished")
        self._has_read = False

    def _reap(self) -> int | None:
        """Return the exit code of the process, None if it runs. Kill the rest of its group.

        The code of a signal is its number, negative.
        """
        assert self._process is not None
        pid = self._process.pid
        if hasattr(os, "waitid"):
            # It stays a zombie for now, so that its number is its own when its group is killed.
            with suppress(ChildProcessError):
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    return None
            orphans.kill_group(pid)
        code = self._process.poll()
        if code is not None:
            if not hasattr(os, "waitid"):
                orphans.kill_group(pid)
            self._reap_group(time.monotonic() + GROUP_S)
        return code

    def _reap_group(self, patience: float) -> None:
        if orphans.reap(self.pid):
            return
        if time.monotonic() < patience:
            self._loop.call_later(DEATH_LOOK_SOON_S, self._reap_group, patience)
        else:
            orphans.forget(self.pid)

    def _read(self, to_the_end: bool = False) -> bool:
        """Take the data that have come. Return False if there were none."""
        try:
            data = os.read(self._read_fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._hang_up()
            return False
        self._has_read = True
        if self._body_of is not None:
            lacking = (self._body_of.body_bytes or 0) - self._body.tell()
            self._body.write(data[:lacking])
            data = data[lacking:]
            self._hear_body()
        if data:
            self._received += data
            self._hear_frames(to_the_end)
        return True

    def _hear_frames(self, to_the_end: bool = False) -> None:
        """Hear whole frames as long as the process may log, and all of them if it has ended."""
        received = self._received
        while len(received) >= LENGTH.size and (to_the_end or self._rest is None):
            size = LENGTH.unpack_from(received)[0]
            if size > messages.FRAME_BYTES and received.startswith(FATAL[: len(received)]):
                return
            end = LENGTH.size + size
            if len(received) < end and size <= messages.FRAME_BYTES:
                return
            try:
                message = messages.decode(bytes(received[LENGTH.size : end]))
                self._check(message)
            except msgspec.DecodeError as error:
                received.clear()
                self._give_up(f"wrote no valid message to the server's pipe: {error}")
                return
            del received[:end]
            if isinstance(message, Done) and message.body_bytes is not None:
                self._body_of = message
                self._body.write(received[: message.body_bytes])
                del received[: message.body_bytes]
                self._hear_body()
            else:
                self._hear(message)

    def _check(self, message: messages.FromChild) -> None:
        if isinstance(message, Ready | Broken) and self.was_ready:
            raise msgspec.DecodeError(f"{type(message).__name__}, after it was ready")
        if isinstance(message, Done) and not 0 <= (message.body_bytes or 0) <= self._most_bytes:
            raise msgspec.DecodeError(f"a result of {message.body_bytes} bytes")

    def _hear_body(self) -> None:
        """Answer with the result once all of it has come."""
        done = self._body_of
        if done is not None and self._body.tell() == done.body_bytes:
            body, self._body, self._body_of = self._body.getvalue(), BytesIO(), None
            self._hear_answer(done, body)

    def _hang_up(self) -> None:
        """The other end of the pipe is closed: the process is dying, as a rule."""
        self._hung_up = True
        self._loop.remove_reader(self._read_fd)
        self._loop.call_later(DYING_S, self._give_up, "has closed the server's pipe")
        if self._looker is not None:
            self._looker.cancel()
            self._looker = self._loop.call_soon(self._look)

    def _give_up(self, how: str) -> None:
        """Kill a process made unusable by a task that used file descriptors it did not open."""
        if not self.ended:
            self.how = self.how or how
            self.kill()

    def _hear(self, message: messages.FromChild) -> None:
        if isinstance(message, Log):
            pause_s = self._owner.logged(self, message)
            if pause_s and not self._hung_up and not self.ended:
                self._loop.remove_reader(self._read_fd)
                self._rest = self._loop.call_later(pause_s, self._go_on)
        elif isinstance(message, Done | Failed):
            self._hear_answer(message, None)
        elif isinstance(message, Progress):
            if self._answer is not None and message.number == self._number and self._report is not None:
                self._report(message.percent, message.message)
        elif isinstance(message, Ready):
            self.was_ready = True
            if not self.leaving:
                self._owner.ready(self)
        elif isinstance(message, Broken):
            self.how = message.error

    def _hear_answer(self, said: Done | Failed, body: bytes | None) -> None:
        """Hear the answer to the call that runs. There is only one call."""
        if self._answer is None or said.number != self._number:
            return
        self.take_output()
        # An idle process keeps nothing of its last call, neither here nor in the process.
        answer, self._answer, self._report = self._answer, None, None
        self._outputs.end(said.left)
        self.memory_bytes = said.memory_bytes
        has_no_memory = isinstance(said, Failed) and said.failure.error_type == MemoryError.__name__
        self.is_exhausted = said.spent or has_no_memory or self._outputs.are_too_many
        if not answer.done():
            answer.set_result(Reply(said, body))
        if not self._doomed:
            self._owner.free(self)

    def take_output(self) -> None:
        """Take the output of the job that runs. What comes later is of no job, or of the next."""
        self._outputs.take()

    def _go_on(self) -> None:
        """Read again: the rest from logging is finished."""
        self._rest = None
        if self.ended or self._hung_up:
            return
        self._hear_frames()
        if self._rest is None:
            self._loop.add_reader(self._read_fd, self._read)

    def _write(self) -> None:
        """Send as much as the pipe takes, and the rest once it takes more."""
        unsent = self._unsent
        try:
            while unsent:
                unsent[0] = unsent[0][os.write(self._write_fd, unsent[0]) :]
                if unsent[0]:
                    break
                unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:
            # It is dead, which is seen when it is reaped. The unsent rest shows that the call did
            # not begin.
            self._loop.remove_writer(self._write_fd)
            return
        if unsent:
            self._loop.add_writer(self._write_fd, self._write)
        else:
            self._loop.remove_writer(self._write_fd)

    def _began(self) -> bool:
        """Whether the process had read its call when it died."""
        if self._unsent:
            return False
        # A pipe keeps the bytes that were not read for as long as one of its ends is open.
        unread = fcntl.ioctl(self._write_fd, termios.FIONREAD, bytes(4))
        return int.from_bytes(unread, sys.byteorder) == 0

    def _end(self) -> None:
        for timer in (self._looker, self._rest):
            if timer is not None:
                timer.cancel()
        self._looker = self._rest = None
        is_dead = not self.leaving
        self.ended = self.leaving = True
        if text := self._outputs.close():
            self._owner.wrote(self, text, is_dead)
        self._report = None
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
            forks.close(self._read_fd)
            self._read_fd = -1
        self._owner.ended(self)

    def _close_write_end(self) -> None:
        if self._write_fd >= 0:
            self._loop.remove_writer(self._write_fd)
            forks.close(self._write_fd)
            self._write_fd = -1
