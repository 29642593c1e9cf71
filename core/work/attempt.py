"""One attempt at a job: decode the payload, run the function, encode its result.

An attempt has an asyncio task and a context of its own, both made anew. So no context variable,
decimal context, cancellation or done callback passes from one job to the next, on the loop or in a
thread. An error of a function ends here, SystemExit included, and leaves as text: nothing keeps an
exception, its traceback or its frames.

An attempt's asyncio task is left out of ``asyncio.all_tasks()``, as all others are: see ``running``.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.tasks import _enter_task, _leave_task, _unregister_task
from collections.abc import Awaitable, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack, ExitStack
from contextvars import Context as Variables
from contextvars import copy_context
from math import inf
from typing import Any, Protocol

from headway.core import forks
from headway.core.job import Job
from headway.core.running import variables_of
from headway.core.task import Lane
from headway.core.tasks import payloads
from headway.core.tasks.around import Around, Arounds, enter, enter_on_loop
from headway.core.tasks.context import Context
from headway.core.tasks.result import Result, ResultError, encode, encode_on_loop, encode_small
from headway.core.work.jobs import Jobs
from headway.core.work.outcome import NULL, Outcome, failed, succeeded
from headway.core.work.threads import ThreadCall, Threads

# Members of an enum cost several times as much to look up (CPython 3.11).
LOOP, PROCESS = Lane.LOOP, Lane.PROCESS

# Saves a turn of the loop on Pythons that have eager tasks.
EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


class AttemptOwner(Protocol):
    """The members of ``Workers`` that an attempt needs."""

    jobs: Jobs
    loop: asyncio.AbstractEventLoop
    threads: Threads
    result_bytes: int
    default_lane: Lane
    # None if there are none.
    arounds: Arounds | None

    def begun(self, attempt: Attempt, job: Job) -> None:
        """The time of the attempt starts: its function is about to be called."""

    async def in_process(self, attempt: Attempt, job: Job) -> Result | None:
        """Run the job's task in a worker process."""

    def over(self, attempt: Attempt, outcome: Outcome) -> None:
        """The attempt has ended."""


class Attempt:
    """An attempt that has been claimed. ``job`` is None once it is settled."""

    __slots__ = (
        "_lane",
        "_workers",
        "call",
        "context",
        "deadline",
        "interrupted_by",
        "job",
        "name",
        "task",
    )

    def __init__(self, workers: AttemptOwner, job: Job) -> None:
        self._workers = workers
        self._lane = job.task.lane or workers.default_lane
        self.job: Job | None = job
        # The name of its task.
        self.name = job.task.name
        # The context for the function, if it takes one.
        self.context: Context | None = None
        if job.task.takes_context or self._lane is PROCESS or workers.arounds is not None:
            self.context = workers.jobs.context(job)
        # The time at which the attempt is interrupted, or given up, of time.monotonic.
        self.deadline = inf
        self.interrupted_by: Outcome | None = None
        # The function's thread, once it has one.
        self.call: ThreadCall[Outcome | Awaitable[object] | _Raised] | None = None
        # None before it has begun.
        self.task: asyncio.Task[Any] | None = None

    def start(self, job: Job) -> None:
        """Begin, and run until the function waits or ends. Call it outside of any task."""
        loop, run, variables = self._workers.loop, self._run(job), variables_of(job.task.name)
        if EAGER:
            # The same as _hidden does, without the cost of its calls for each job.
            _unregister_task(asyncio.Task(run, loop=loop, name=self.name, context=variables, **EAGER))
            return
        begun = _Begun(run)
        task = self.task = asyncio.Task(begun, loop=loop, name=self.name, context=variables)
        _unregister_task(task)
        _enter_task(loop, task)
        try:
            variables.run(begun.take_first)
        finally:
            _leave_task(loop, task)

    def interrupt(self, outcome: Outcome) -> None:
        """Stop the attempt. It counts as ``outcome``, unless it was settled already."""
        if self.interrupted_by is None:
            self.interrupted_by = outcome
            if self.context is not None:
                self.context.cancelled = True
            if self.task is not None:
                self.task.cancel()

    async def _run(self, job: Job) -> None:
        workers = self._workers
        if self.interrupted_by is not None:
            workers.over(self, self.interrupted_by)
            return
        if sys.version_info >= (3, 12):
            self.task = asyncio.current_task(workers.loop)
            # An eager task is among all tasks while it takes its first step.
            asyncio.tasks._unregister_eager_task(self.task)
        try:
            if self._lane is PROCESS:
                outcome = succeeded(await workers.in_process(self, job))
            else:
                workers.begun(self, job)
                if workers.arounds is not None:
                    outcome = await self._within(job, workers.arounds)
                else:
                    outcome = await (self._on_loop(job) if self._lane is LOOP else self._in_thread(job))
        except BaseException as error:  # noqa: BLE001 — any error of a task is its job's failure, not ours
            outcome = failed(error, job.task.retry_on)
        if self.context is not None:
            self.context.close()
        # Not in the job's context: timers that are set from here on would keep the values in it.
        Variables().run(workers.over, self, outcome)

    async def _within(self, job: Job, arounds: Arounds) -> Outcome:
        """Run the attempt within the context managers that run on the loop.

        One that swallows the error of the attempt makes it succeed with ``null``.
        """
        assert self.context is not None
        here = arounds.declared if self._lane is LOOP or job.task.awaits else arounds.asynchronous
        there = () if here is arounds.declared else arounds.plain
        async with AsyncExitStack() as stack:
            await enter_on_loop(stack, here, self.context)
            return await (self._on_loop(job) if self._lane is LOOP else self._in_thread(job, here, there))
        return NULL

    async def _on_loop(self, job: Job) -> Outcome:
        kind, media_type = job.task.payload_type, job.terms.media_type
        if media_type or len(job.payload) <= payloads.SHORT_BYTES:
            payload = payloads.decode(job.payload, kind, media_type)
        else:
            payload = await payloads.decode_on_loop(job.payload, kind)
        try:
            value = await job.task.function(*self._arguments(job, payload))
        finally:
            if forks.forked:
                forks.end()
        if value is None:
            return NULL
        most_bytes = self._workers.result_bytes
        # Nearly all values are small, and need no coroutine.
        return succeeded(encode_small(value, most_bytes) or await encode_on_loop(value, most_bytes))

    async def _in_thread(self, job: Job, here: Sequence[Around] = (), there: Sequence[Around] = ()) -> Outcome:
        """Run the function in a thread, within ``there``. Those of ``here``, on the loop, get its error."""
        workers = self._workers
        call = self.call = workers.threads.start(
            workers.loop, lambda: self._called(job, bool(here), there), copy_context()
        )
        came = await call.answer
        if isinstance(came, Outcome):
            return came
        if isinstance(came, _Raised):
            # Nothing keeps an exception: neither the answer nor this frame.
            error, came.error = came.error, None
            try:
                raise error or RuntimeError
            finally:
                del error
        # A plain function returned an awaitable: it wraps a coroutine function.
        return succeeded(await encode_on_loop(await came, self._workers.result_bytes))

    def _called(self, job: Job, raises: bool, within: Sequence[Around]) -> Outcome | Awaitable[object] | _Raised:
        """Do in a thread everything that takes time."""
        try:
            if not within:
                return self._answer(job)
            assert self.context is not None
            with ExitStack() as stack:
                enter(stack, within, self.context)
                answer = self._answer(job)
                if isinstance(answer, Awaitable):
                    raise ResultError(
                        f"returned {type(answer).__name__}, which is awaited elsewhere than @around is. "
                        "Use functools.wraps in the decorator of the coroutine function"
                    )
                return answer
            return NULL
        except BaseException as error:  # noqa: BLE001 — as above
            return _Raised(error) if raises else failed(error, job.task.retry_on)

    def _answer(self, job: Job) -> Outcome | Awaitable[object]:
        try:
            payload = payloads.decode(job.payload, job.task.payload_type, job.terms.media_type)
            value = job.task.function(*self._arguments(job, payload))
        finally:
            if forks.forked:
                forks.end()
        return value if isinstance(value, Awaitable) else succeeded(encode(value, self._workers.result_bytes))

    def _arguments(self, job: Job, payload: object) -> tuple[object, ...]:
        return (payload, self.context) if job.task.takes_context else (payload,)


class _Raised:
    """The error of a function in a thread, for the context managers on the loop."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error


class _Begun(Coroutine[Any, Any, None]):
    """A coroutine whose first step is taken before its task takes one.

    So it does as eager tasks do, for Pythons without them. A job that never waits thus ends at
    once, in the turn in which it was claimed. With a turn of the loop for each job, no more jobs
    than there are workers would end in a turn. They would pile up, and run when nothing of them is
    in the caches any more.
    """

    __slots__ = ("_coroutine", "_is_awaited", "_is_over", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine
        self._is_over = self._is_awaited = False
        # The future that the first step waits for. None once the task knows it.
        self._waits_for: Any = None

    def take_first(self) -> None:
        """Take the first step."""
        try:
            self._waits_for = self._coroutine.send(None)
        except StopIteration:
            self._is_over = True
        else:
            # Through this flag a future tells its task that it is awaited. Others may await it
            # before our task takes its step.
            self._is_awaited = getattr(self._waits_for, "_asyncio_future_blocking", False)
            if self._is_awaited:
                self._waits_for._asyncio_future_blocking = False

    def send(self, value: Any) -> Any:
        """Take the next step. The first was taken already."""
        if self._is_over:
            raise StopIteration
        waits_for, self._waits_for = self._waits_for, None
        if waits_for is None:
            return self._coroutine.send(value)
        if self._is_awaited:
            waits_for._asyncio_future_blocking = True
        return waits_for

    def throw(self, *error: Any) -> Any:
        """Have the coroutine raise an error where it waits."""
        if self._is_over:
            raise StopIteration
        self._waits_for = None
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """End the coroutine."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._coroutine.__await__()
