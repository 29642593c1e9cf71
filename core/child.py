"""What runs in a worker process: import the task modules once, then one job after the other, each in the main thread.

The two pipes are the process's own: a task may print, or close its stdin, as it likes. Whatever a task raises is
its job's failure, SystemExit included; only what ends the process itself (os._exit, a signal) is a crash.

It never outlives the server. Where the kernel can be asked to, it kills us with the server; everywhere, a thread
sees the server's end of the pipe close, by which an idle process is also told to leave. SIGINT and SIGTERM are the
server's to act on, though a terminal or systemd sends them to us as well: they do nothing here. Not by SIG_IGN,
which programs that a task starts would inherit.

Progress is coalesced: what a task reports is sent by a thread, the latest only, at most every PROGRESS_S.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import Context as Variables
from io import BufferedReader
from types import FrameType
from typing import Literal

import msgspec
from headway.core import messages
from headway.core.context import Context
from headway.core.errors import ConfigError
from headway.core.failure import failure
from headway.core.messages import Broken, Call, Done, Failed, Message, Progress, Ready
from headway.core.registry import REGISTRY, Retry, Task, load
from headway.core.results import OCTETS, ResultError, encode

# Seconds between two reports of progress.
PROGRESS_S = 0.05
# Seconds a process whose server has hung up may take to end by itself.
END_S = 0.5
# By how much worker processes give way to the server, and to whoever else is on the machine.
NICENESS = 5

_PR_SET_PDEATHSIG = 1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_decode = msgspec.json.Decoder().decode


def main(modules: list[str], result_bytes: int, read_fd: int, write_fd: int) -> None:
    """Import ``modules``, then do what is asked for on ``read_fd``, until that is closed."""
    _leave_signals_to_the_server()
    # Who polls is answered first, also while all processes compute.
    os.nice(NICENESS)
    for fd in (read_fd, write_fd):
        os.set_inheritable(fd, False)
    _end_with_the_server(read_fd)
    faulthandler.enable(write_fd)
    sender = Sender(write_fd)
    try:
        load(modules)
    except ConfigError as error:
        sender.send(Broken(str(error)))
        return
    sender.send(Ready())
    most_bytes = min(result_bytes, messages.BODY_MOST)
    memory_bytes = _memory()
    with open(read_fd, "rb", closefd=False) as calls:
        while call := _next(read_fd, calls):
            answer = _run(call, sender, most_bytes, memory_bytes)
            sender.flush()
            sender.send(answer)


class Sender:
    """Our end of the pipe to the server; any thread may use it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        # The latest that a task reported and that is not sent yet.
        self._pending: Progress | None = None
        self._news = threading.Event()
        self._forwarder: threading.Thread | None = None

    def send(self, message: Message) -> None:
        """Send all of a message; ends the process if nobody listens any more."""
        unsent = memoryview(messages.frame(message))
        with self._lock:
            try:
                while unsent:
                    unsent = unsent[os.write(self._fd, unsent) :]
            except BrokenPipeError:
                os._exit(1)

    def report(self, progress: Progress) -> None:
        """Have the latest progress sent soon."""
        self._pending = progress
        if self._forwarder is None:
            self._forwarder = threading.Thread(target=self._forward, name="headway-progress", daemon=True)
            self._forwarder.start()
        self._news.set()

    def flush(self) -> None:
        """Send what is pending."""
        progress, self._pending = self._pending, None
        if progress is not None:
            self.send(progress)

    def _forward(self) -> None:
        while self._news.wait():
            self._news.clear()
            self.flush()
            time.sleep(PROGRESS_S)


def _next(fd: int, calls: BufferedReader) -> Call | None:
    """Wait for a call; None where there will be no more."""
    # Not by reading: a process that is killed where it waits for a read may still take what comes at that moment
    # off the pipe, and the server would think that the job began.
    select.select([fd], [], [])
    head = calls.read(messages.LENGTH.size)
    if len(head) < messages.LENGTH.size:
        return None
    size = messages.LENGTH.unpack(head)[0]
    body = calls.read(size)
    return messages.decode_call(body) if len(body) == size else None


def _run(call: Call, sender: Sender, most_bytes: int, memory_bytes: Callable[[], int]) -> Done | Failed:
    context = Context(call.job_id, call.attempt, lambda percent: sender.report(Progress(call.number, percent)))
    task = REGISTRY.by_name.get(call.task)
    try:
        if task is None:
            raise LookupError(
                f"the worker process has no task {call.task!r}; have its modules changed? Restart the server"
            )
        arguments = [_decode(call.payload), context] if task.takes_context else [_decode(call.payload)]
        # In a context of its own: what one job sets is not there for the next.
        value = Variables().run(task.function, *arguments)
        if isinstance(value, Awaitable):
            raise ResultError(f"returned {type(value).__name__}, which only a task on the loop or in a thread may")
        result = encode(value, most_bytes)
        if result is None:
            return Done(memory_bytes(), None, OCTETS)
        return Done(memory_bytes(), result.body, result.media_type)
    except BaseException as error:  # noqa: BLE001 — whatever a task raises is its job's failure, not ours
        return _failed(error, task, memory_bytes())
    finally:
        context.close()


def _failed(error: BaseException, task: Task | None, memory_bytes: int) -> Failed:
    fault: Literal["task", "retry", "result"] = "task"
    if isinstance(error, Retry | ResultError):
        fault = "retry" if isinstance(error, Retry) else "result"
    told = failure(error, () if task is None else task.retry_on)
    return Failed(memory_bytes, told.text, told.traceback, fault, told.may_retry, told.retry_delay)


def _memory() -> Callable[[], int]:
    """Return what tells how many bytes of memory this process takes; its peak where there is no /proc."""
    try:
        statm = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        import resource

        return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return lambda: int(os.pread(statm, 100, 0).split()[1]) * _PAGE_BYTES


def _leave_signals_to_the_server() -> None:
    ours = (signal.SIGINT, signal.SIGTERM)

    def do_nothing(_number: int, _frame: FrameType | None) -> None:
        pass

    def in_child() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        in_parent()

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)

    for number in ours:
        signal.signal(number, do_nothing)
    # A task's own multiprocessing.Pool ends its processes by SIGTERM, maybe before they have begun.
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ours),
        after_in_parent=in_parent,
        after_in_child=in_child,
    )


def _end_with_the_server(read_fd: int) -> None:
    if sys.platform == "linux":
        # The thread below needs the GIL, which a regular expression, say, may hold for hours.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(read_fd,), name="headway-watch", daemon=True).start()


def _watch(read_fd: int) -> None:
    """End the process when the other end of the pipe is closed and the main thread does not see to it."""
    hang_up = select.poll()
    # 0: what comes to be read is no concern of ours.
    hang_up.register(read_fd, 0)
    hang_up.poll()
    time.sleep(END_S)
    os._exit(1)
