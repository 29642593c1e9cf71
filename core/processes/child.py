"""The program of a worker process: import the task modules once, then run one job after the other.

The lifespan that a module declares begins before the first job and ends after the last.

Each job runs in the main thread. The pipes are the process's own: a task may print, which goes to
the log of its job, or close its stdin, as it likes. Any exception of a task is a failure of its
job, SystemExit included. Only the end of the process itself (os._exit, a signal) is a crash.

It never outlives the server. On Linux the kernel kills it with the server. Everywhere, a thread
sees the server's end of the pipe close, which also tells an idle process to leave. The server acts
on SIGINT and SIGTERM. A terminal or systemd sends them to worker processes as well, and here they
do nothing. SIG_IGN is not used for that, since programs that a task starts would inherit it.

A child that a task forks does not belong to us. It has no end of the pipes, and ends when the task
returns in it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from contextvars import Context as Variables
from io import BufferedReader
from types import FrameType

import msgspec
from headway.core import forks, records
from headway.core.body import OCTETS
from headway.core.errors import ConfigError, InvalidPayloadError
from headway.core.processes import frames, messages
from headway.core.processes.confinement import Confinement
from headway.core.processes.messages import LEAVE_S, Broken, Call, Done, Failed, Progress, Ready
from headway.core.processes.output import Output
from headway.core.processes.sender import Sender, ToServer
from headway.core.processes.threads import JobThreads
from headway.core.task import Task
from headway.core.tasks.around import enter
from headway.core.tasks.context import Context
from headway.core.tasks.failure import Failure, cut, failure
from headway.core.tasks.lifespan import begin_in_thread
from headway.core.tasks.payloads import decode_at_once
from headway.core.tasks.registry import REGISTRY, load
from headway.core.tasks.result import Result, ResultError, encode

# Seconds in which a process has to end or begin to leave by itself once the server has hung up.
END_S = 0.5
# Seconds without a call after which the cycles that the last one left are collected.
IDLE_S = 0.5
# Bytes that are read at once of a payload that nobody can use.
PIECE_BYTES = 1 << 16
# By how much worker processes give way to the server, and to all else on the machine.
NICENESS = 5

_PR_SET_PDEATHSIG = 1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def main(
    modules: list[str],
    result_bytes: int,
    log_level: int,
    confinement: dict[str, object],
    *,
    trial: bool = False,
    read_fd: int,
    write_fd: int,
    ends_fd: int,
) -> None:
    """Import ``modules``, then answer the calls on ``read_fd`` until it is closed. A ``trial`` answers none."""
    _leave_signals_to_the_server()
    # Clients that poll are answered first, also while all processes compute.
    os.nice(NICENESS)
    for fd in (read_fd, write_fd):
        os.set_inheritable(forks.keep(fd), False)
    threads = JobThreads()
    output = Output(ends_fd, threads)
    sender = Sender(write_fd)
    confined = msgspec.convert(confinement, Confinement)
    leaving = threading.Event()
    try:
        _confine(confined, read_fd, leaving)
        faulthandler.enable(write_fd)
        forks.in_child(_crash_on_stderr)
        logs = _send_logs(sender, threads, log_level)
        load(modules)
        if trial:
            sender.send(Ready())
            return
        state, leave = begin_in_thread(REGISTRY.lifespan)
    except (ConfigError, OSError, RuntimeError, MemoryError) as error:
        # The last two: not even a thread has room.
        sender.send(Broken(f"{str(error) or type(error).__name__}{confined.blamed(error)}"))
        return
    # The modules stay: all that is collected from here on is of jobs.
    gc.collect()
    gc.freeze()
    sender.send(Ready())
    most_bytes = min(result_bytes, messages.BODY_MOST)
    memory_bytes = _memory()
    with open(read_fd, "rb", closefd=False) as calls:
        while _serve(
            calls,
            sender,
            logs,
            output,
            fd=read_fd,
            most_bytes=most_bytes,
            memory_bytes=memory_bytes,
            state=state,
            confined=confined,
        ):
            pass
    leaving.set()
    leave()


def _confine(confined: Confinement, read_fd: int, leaving: threading.Event) -> None:
    """Take the process's limits and user, then have it end with the server: a change of the user would undo that."""
    confined.enter()
    _end_with_the_server(read_fd, leaving)


def _send_logs(sender: Sender, threads: JobThreads, level: int) -> ToServer:
    """Have all log records and warnings sent to the server. Return their handler."""
    logs = ToServer(sender, threads)
    logging.basicConfig(level=level, handlers=[logs], force=True)
    records.capture()
    return logs


def _serve(
    calls: BufferedReader,
    sender: Sender,
    logs: ToServer,
    output: Output,
    *,
    fd: int,
    most_bytes: int,
    memory_bytes: Callable[[], int],
    state: object,
    confined: Confinement,
) -> bool:
    """Wait for a call and answer it. Return False if there will be no further call.

    Nothing of the call is kept afterwards.
    """
    # It does not wait in a read: a process that is killed there may still take the data that come
    # at that moment off the pipe, and the server would think that the job began.
    if not select.select([fd], [], [], IDLE_S)[0]:
        gc.collect()
        select.select([fd], [], [])
    call = _next(calls)
    if call is None:
        return False
    logs.call, payload = call
    output.begin()
    confined.begin_job()
    done, body = _run(logs.call, payload, sender, output, most_bytes=most_bytes, memory_bytes=memory_bytes, state=state)
    spent, left = confined.end_job(), output.end()
    if spent or left:
        done = msgspec.structs.replace(done, spent=spent, left=left)
    logs.call = None
    sender.flush()
    sender.send(done, body)
    return True


def _next(calls: BufferedReader) -> tuple[Call, bytes | MemoryError] | None:
    """Read a call with its payload. Return None if there will be no further call.

    A payload for which there is no memory is read to its end all the same: the call would count as
    one that did not begin, and be made again and again.
    """
    head = calls.read(frames.LENGTH.size)
    if len(head) < frames.LENGTH.size:
        return None
    size = frames.LENGTH.unpack(head)[0]
    body = calls.read(size)
    if len(body) < size:
        return None
    call = messages.decode_call(body)
    try:
        payload = calls.read(call.payload_bytes)
    except MemoryError as error:
        left = call.payload_bytes
        while left and (piece := calls.read(min(left, PIECE_BYTES))):
            left -= len(piece)
        return None if left else (call, error)
    return (call, payload) if len(payload) == call.payload_bytes else None


def _run(
    call: Call,
    payload: bytes | MemoryError,
    sender: Sender,
    output: Output,
    *,
    most_bytes: int,
    memory_bytes: Callable[[], int],
    state: object,
) -> tuple[Done | Failed, bytes]:
    context = Context(
        call.job_id,
        call.attempt,
        lambda percent, message: sender.report(Progress(call.number, percent, message)),
        write=output.write,
        task=call.task,
        state=state,
        traceparent=call.traceparent,
    )
    task = REGISTRY.by_name.get(call.task)
    try:
        if task is None:
            raise LookupError(
                f"the worker process has no task {call.task!r}. If its modules have changed, restart the server"
            )
        if isinstance(payload, MemoryError):
            raise payload
        # In a context of its own: a variable that one job sets is not there for the next.
        result = Variables().run(_attempt, task, call.media_type, payload, context, most_bytes=most_bytes)
        body = b"" if result is None else result.body
        media_type = OCTETS if result is None else result.media_type
        return Done(call.number, memory_bytes(), None if result is None else len(body), media_type), body
    except BaseException as error:  # noqa: BLE001 — any exception of a task is its job's failure, not ours
        return _failed(call.number, error, task, memory_bytes()), b""
    finally:
        context.close()


def _attempt(task: Task, media_type: str, payload: bytes, context: Context, *, most_bytes: int) -> Result | None:
    """Run a task within what is declared to be around it. One that swallows its error makes it return None."""
    with ExitStack() as stack:
        enter(stack, REGISTRY.arounds.plain, context)
        given = decode_at_once(payload, task.payload_type, media_type)
        try:
            value = task.function(given, context) if task.takes_context else task.function(given)
        finally:
            if forks.forked:
                forks.end()
        if isinstance(value, Awaitable):
            raise ResultError(f"returned {type(value).__name__}, which only a task on the loop or in a thread may")
        return encode(value, most_bytes)
    return None


def _failed(number: int, error: BaseException, task: Task | None, memory_bytes: int) -> Failed:
    if isinstance(error, InvalidPayloadError):
        return Failed(number, memory_bytes, "payload", Failure("", cut(str(error))))
    told = failure(error, () if task is None else task.retry_on)
    return Failed(number, memory_bytes, "result" if isinstance(error, ResultError) else "task", told)


def _memory() -> Callable[[], int]:
    """Return a function that returns the bytes of this process's memory: its peak without /proc."""
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

    for number in ours:
        signal.signal(number, do_nothing)
    # A task's own multiprocessing.Pool ends its processes by SIGTERM, maybe before they have begun.
    forks.own_signals(ours)


def _crash_on_stderr() -> None:
    """Let a forked child that crashes write its stack to stderr, as any program does."""
    faulthandler.disable()
    with suppress(OSError, ValueError):
        faulthandler.enable(2)


def _end_with_the_server(read_fd: int, leaving: threading.Event) -> None:
    if sys.platform == "linux":
        # The thread below needs the GIL, which a regular expression, for example, may hold for
        # hours.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(read_fd, leaving), name="headway-watch", daemon=True).start()


def _watch(read_fd: int, leaving: threading.Event) -> None:
    """End the process once the other end of the pipe is closed, unless the main thread ends it."""
    hang_up = select.poll()
    # 0: data to be read are no concern of this thread.
    hang_up.register(read_fd, 0)
    hang_up.poll()
    if leaving.wait(END_S):
        # Functions registered with atexit may take as long as the server waits.
        time.sleep(LEAVE_S)
    with suppress(OSError):
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
