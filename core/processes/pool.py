"""Worker processes: ``count`` of them, warm, for plain functions that must not run on the loop.

A job runs alone in its process and shares its fate with no other job: a process that dies, for any
reason, is replaced, and the only job that notices is the one it had begun. Cancelling a run kills
its process.

A process is *starting*, *spare* (ready while there is no place) or *serving* (idle or busy,
``count`` at most). When one begins the last tenth of its ``max_jobs``, its replacement is started,
so that a spare stands ready when it goes. One that is over ``max_memory_bytes`` after a job goes at
once, as does one that had no memory for a job, has no CPU time for another, or whose jobs have left too many
programs with their output. None of them ends in a job.

Log records of a process are logged here, by the level and in the format of the server, and so is what
it writes while no job runs. Output of a job goes to the log of the job. All together take LOG_SHARE of the
loop's time at most.

Runs that wait for a process are served in the order of coming. Each gets the process itself, so
that no other run comes between.

If a process ends before its first call, the next starts are ever later, one at a time, and this is
logged once. SIGKILL is not counted against it: that comes from outside. At the start of a server the
first process tells whether any can start (see ``begin``).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from headway.core.config import Config
from headway.core.errors import ConfigError, InvalidPayloadError
from headway.core.processes.confinement import Confinement
from headway.core.processes.messages import LEAVE_S, Call, Done, Log
from headway.core.processes.process import CrashedError, Process, Reply
from headway.core.task import Lane, Task
from headway.core.tasks.failure import Failure
from headway.core.tasks.registry import Registry
from headway.core.tasks.result import Result, ResultError

log = logging.getLogger(__name__)

# Seconds before the next start of a process: after the first failed start, then doubling, at most
# BACKOFF_MOST_S. After a kill from outside it is AFTER_KILL_S.
BACKOFF_S = 0.2
BACKOFF_MOST_S = 30.0
AFTER_KILL_S = 0.05
# The share of the loop's time that logs and output of processes may take, and by how many seconds
# they may be ahead of it.
LOG_SHARE = 0.1
LOG_AHEAD_S = 0.1
# Seconds for which a start waits for its first process.
READY_S = 30.0
# Seconds in which killed processes have to be gone when the pool stops.
STOP_S = 1.0
# Of processes that are bound by nothing.
FREE = Confinement()
STOPPING = "is not there: the pool is stopped"


class FailedError(Exception):
    """The task raised, a Retry and a Snooze included. ``failure`` has the kept parts of its error."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Processes:
    """The pool."""

    def __init__(
        self,
        count: int,
        modules: Iterable[str],
        *,
        max_jobs: int,
        max_memory_bytes: int,
        result_bytes: int,
        log_level: int = logging.INFO,
        confinement: Confinement = FREE,
    ) -> None:
        self.count = count
        self.modules = tuple(modules)
        # Jobs after which a process is replaced, and bytes above which it is. 0: never.
        self.max_jobs = max_jobs
        self.max_memory_bytes = max_memory_bytes
        self.result_bytes = result_bytes
        # The level from which processes log.
        self.log_level = log_level
        self.confinement = confinement
        # When their log records so far are paid for, of time.monotonic.
        self._logs_paid_at = 0.0
        # Called when one more process serves.
        self.on_up: Callable[[], object] = lambda: None
        # Processes that ended unasked, that were killed with their run cancelled, and that had
        # served long enough.
        self.restarts = 0
        self.killed = 0
        self.recycled = 0
        # All processes that are not yet reaped.
        self._processes: set[Process] = set()
        self._serving: set[Process] = set()
        self._idle: list[Process] = []
        self._spares: list[Process] = []
        self._waiting: deque[asyncio.Future[Process]] = deque()
        self._number = 0
        # Starts that failed in a row, and the pause until the next start.
        self._failed_starts = 0
        self._pause: asyncio.TimerHandle | None = None
        self.stopping = False
        self._all_ended = asyncio.Event()
        # While ``begin`` waits: why the first process cannot start, None if it is ready.
        self._first: asyncio.Future[str | None] | None = None

    def __repr__(self) -> str:
        kinds = f"{self.up} of {self.count} up, {len(self._idle)} idle, {len(self._spares)} spare"
        return f"<Processes {kinds}; {len(self._waiting)} runs wait>"

    @property
    def up(self) -> int:
        """Processes that serve: fewer than ``count`` while some start."""
        return len(self._serving)

    @property
    def pids(self) -> list[int]:
        """The ids of all processes, those that start or leave included."""
        return [process.pid for process in self._processes if process.pid]

    def start(self) -> None:
        """Start the processes on the running loop, all at once."""
        self._replace()

    async def begin(self) -> None:
        """Start the processes, and wait for the first. Raises ConfigError if it ends by itself before it is ready.

        That one would never start: its limits cannot be kept, or the modules cannot be imported with them.
        One that is killed, cannot be spawned, or takes longer than READY_S says nothing of the next.
        """
        self.stopping = False
        self._all_ended.clear()
        self._first = first = asyncio.get_running_loop().create_future()
        self.start()
        try:
            async with asyncio.timeout(READY_S):
                fault = await first
        except TimeoutError:
            return
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            self._first = None
        if fault is not None:
            await self.stop()
            raise ConfigError(f"a worker process cannot start: {fault}")

    async def stop(self) -> None:
        """End all processes, those that run a job by force. Takes LEAVE_S and STOP_S at most."""
        self.stopping = True
        if not self._processes:
            self._all_ended.set()
        if self._pause is not None:
            self._pause.cancel()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(CrashedError(STOPPING))
        for process in self._processes:
            if process in self._idle or process in self._spares:
                process.leave()
            else:
                process.kill()
        for patience_s in (LEAVE_S, STOP_S):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended.wait(), patience_s)
            for process in self._processes:
                process.kill()

    async def run(
        self,
        task: str,
        payload: bytes,
        job_id: str,
        attempt: int,
        *,
        report: Callable[[int, str], None],
        write: Callable[[bytes], None] = lambda _: None,
        begun: Callable[[], object] = lambda: None,
        media_type: str = "",
        traceparent: str | None = None,
    ) -> Result | None:
        """Run a task in a process, waiting for one if none is idle, and return its result.

        The payload is JSON, or content of ``media_type``.

        ``begun`` is called once the run has a process, ``report`` now and then with its progress, and
        ``write`` with its output, all on the loop.
        Raises FailedError if the task raised, ResultError if its return value is no result,
        InvalidPayloadError if the payload does not fit it, and CrashedError if its process died.
        """
        self._number = number = self._number + 1
        call = Call(number, task, len(payload), job_id, attempt, media_type=media_type, traceparent=traceparent)
        answer: Reply | None = None
        while answer is None:
            process = await self._next()
            begun()
            answer = await self._call(process, call, payload, report, write)
        said, body = answer
        if isinstance(said, Done):
            return None if body is None else Result(body, said.media_type)
        if said.fault == "payload":
            raise InvalidPayloadError([("", said.failure.text)])
        if said.fault == "result":
            raise ResultError(said.failure.text)
        raise FailedError(said.failure)

    async def _call(
        self,
        process: Process,
        call: Call,
        payload: bytes,
        report: Callable[[int, str], None],
        write: Callable[[bytes], None],
    ) -> Reply | None:
        if self.max_jobs and not process.leaving and process.calls >= self.max_jobs - 1 - self.max_jobs // 10:
            process.leaving = True
            self._replace()
        answer = process.call(call, payload, report, write)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.cancelled() and not process.ended:
                self.killed += 1
                process.take_output()
                process.kill()
                self._dismiss(process)
            raise

    async def _next(self) -> Process:
        """Take an idle process, or wait for one."""
        while self._idle:
            process = self._idle.pop()
            if not process.ended:
                return process
        while not self.stopping:
            waiter: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                process = await waiter
            except asyncio.CancelledError:
                if not waiter.cancelled():
                    self._offer(waiter.result())
                with suppress(ValueError):
                    self._waiting.remove(waiter)
                raise
            if not process.ended:
                return process
        raise CrashedError(STOPPING)

    def _offer(self, process: Process) -> None:
        """Hand a process to the run that has waited longest, or let it be idle."""
        if process.ended:
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(process)
                return
        self._idle.append(process)

    # Events of a process.

    def ready(self, process: Process) -> None:
        """Take a process that has started into service once there is a place."""
        self._tell_first(None)
        self._spares.append(process)
        self._fill()
        self._replace()

    def free(self, process: Process) -> None:
        """Use a process again, or let it go."""
        self._failed_starts = 0
        if self._has_served_enough(process):
            self.recycled += 1
            process.leave()
            self._dismiss(process)
        else:
            self._offer(process)

    def ended(self, process: Process) -> None:
        """Replace a process that has ended."""
        self._processes.discard(process)
        if self.stopping:
            if not self._processes:
                self._all_ended.set()
            return
        if process in self._serving or process in self._spares or not process.was_ready:
            self.restarts += 1
            if process.calls:
                log.warning("worker process %d %s: replacing it", process.pid, process.how)
            else:
                self._put_off(process)
        self._dismiss(process)

    def logged(self, process: Process, record: Log) -> float:
        """Log a record of a process, and return the seconds until it may log more.

        The pause holds logging to LOG_SHARE of the loop's time.
        """
        began = time.monotonic()
        fields = {"job": record.job_id, "task": record.task, "attempt": record.attempt} if record.job_id else {}
        made = logging.makeLogRecord(fields)
        made.name, made.levelno, made.levelname = record.logger, record.level, logging.getLevelName(record.level)
        made.created, made.msecs = record.created, record.created % 1 * 1000
        made.msg, made.exc_text, made.process = record.message, record.stack or None, process.pid
        # By our own logger: tasks can have any number of loggers with names of their own.
        log.handle(made)
        return self._pay(began)

    def wrote(self, process: Process, text: str, is_dead: bool) -> None:
        """Log the text that a process wrote while no job ran, as a warning if it may tell why it has ended."""
        if self._failed_starts and not process.was_ready:
            # As the one before it. That processes cannot start is logged once.
            return
        if is_dead and not self.stopping:
            log.warning("worker process %d wrote before it ended: %s", process.pid, text)
        else:
            log.info("worker process %d wrote outside of jobs: %s", process.pid, text)

    def has_read(self, began: float) -> float:
        """Note that output was read, since ``began``. Return the seconds until more may be."""
        return self._pay(began)

    def _pay(self, began: float) -> float:
        """Return the seconds to wait after work since ``began``. Then there is time for more than one piece."""
        now = time.monotonic()
        self._logs_paid_at = max(self._logs_paid_at, now) + (now - began) / LOG_SHARE
        late = self._logs_paid_at - now - LOG_AHEAD_S
        return late + LOG_AHEAD_S / 2 if late > 0 else 0.0

    # Service.

    def _has_served_enough(self, process: Process) -> bool:
        is_large = 0 < self.max_memory_bytes < process.memory_bytes
        return is_large or process.is_exhausted or 0 < self.max_jobs <= process.calls

    def _fill(self) -> None:
        while self._spares and len(self._serving) < self.count:
            process = self._spares.pop()
            self._serving.add(process)
            self._offer(process)
            self.on_up()

    def _dismiss(self, process: Process) -> None:
        """Take a process out of service, and fill its place."""
        self._serving.discard(process)
        for processes in (self._idle, self._spares):
            if process in processes:
                processes.remove(process)
        self._fill()
        self._replace()

    def _replace(self) -> None:
        """Start as many processes as are lacking, one at a time if the last could not start."""
        if self.stopping or self._pause is not None:
            return
        lacking = self.count - sum(not process.leaving for process in self._processes)
        if self._failed_starts:
            lacking = min(lacking, 1 - sum(not process.was_ready for process in self._processes))
        for _ in range(lacking):
            process = Process(self, self.modules, self.result_bytes, self.log_level, self.confinement)
            self._processes.add(process)
            process.start()

    def _put_off(self, process: Process) -> None:
        """Pause before the next start: this process ended before its first call."""
        if process.returncode not in (None, -signal.SIGKILL) and self._tell_first(process.how):
            # The others would not start either.
            self.stopping = True
            return
        pause_s = AFTER_KILL_S
        if process.returncode != -signal.SIGKILL:
            pause_s = min(BACKOFF_S * 2.0 ** min(self._failed_starts, 20), BACKOFF_MOST_S)
            self._failed_starts += 1
            if self._failed_starts == 1:
                log.error("a worker process cannot start: %s (retrying until it can)", process.how)
        else:
            log.warning("worker process %d %s: replacing it", process.pid, process.how)
        if self._pause is None:
            self._pause = asyncio.get_running_loop().call_later(pause_s, self._go_on)

    def _tell_first(self, fault: str | None) -> bool:
        """Tell ``begin`` of the first process. Return whether it waited."""
        if self._first is None or self._first.done():
            return False
        self._first.set_result(fault)
        return True

    def _go_on(self) -> None:
        self._pause = None
        self._replace()


def runs_in_process(task: Task, config: Config) -> bool:
    """Whether the jobs of ``task`` run in a worker process."""
    return (task.lane or Lane(config.jobs.run_in)) is Lane.PROCESS


def pool_for(config: Config, registry: Registry) -> Processes | None:
    """Return the pool of worker processes, if any task needs it."""
    if not any(runs_in_process(task, config) for task in registry.tasks):
        return None
    return Processes(
        config.processes,
        config.tasks,
        max_jobs=config.max_jobs_per_process,
        max_memory_bytes=config.max_memory_per_process,
        result_bytes=config.results.max_result_bytes,
        log_level=getattr(logging, config.log.level.upper()),
        confinement=Confinement.of(config),
    )
