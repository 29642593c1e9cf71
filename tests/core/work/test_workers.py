"""Workers: when attempts begin and end, what is settled and released, and threads that do not come back.

An engine is put in their place that has jobs and takes notes; where processes are needed it is a real one.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import pytest
from headway.core.job import Job, Reason, State, Terms
from headway.core.local.engine import LocalEngine
from headway.core.processes.pool import Processes
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Options, Registry
from headway.core.tasks.result import Result
from headway.core.work.outcome import Outcome
from headway.core.work.workers import GRACE_S, TURN_S, Workers

from tests.core import virtual_time
from tests.core.engines import UNSTOPPABLE_S, engine_of, now, over, peek, run, said, submit, until
from tests.core.processes import tasks_in_processes
from tests.core.virtual_time import Jumping

# Seconds until a process is free.
BUSY_S = 50.0


class BusyProcesses(Processes):
    """A pool whose processes are busy for a while, and there are none."""

    def __init__(self) -> None:
        super().__init__(0, (), max_jobs=0, max_memory_bytes=0, result_bytes=0)

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
        await asyncio.sleep(BUSY_S)
        begun()
        await asyncio.sleep(float(payload))
        return None


def in_process(_: object) -> None:
    """It is never called: see BusyProcesses."""


class Engine:
    """What workers need of an engine: jobs to be claimed, and somebody who takes note of what becomes of them."""

    def __init__(self, count: int, *tasks: Callable[..., Any]) -> None:
        self.registry = Registry()
        for task in tasks:
            self.registry.add(task, Options(run_in="process" if task is in_process else None))
        self.waiting: deque[Job] = deque()
        self.begun: list[int] = []
        # (sequence, its outcome), and indexes of tasks.
        self.settled: list[tuple[int, Outcome]] = []
        self.released: list[int] = []
        self.contexts: dict[int, Context] = {}
        self.changed = asyncio.Event()
        # How many settlements fail, and how long a claim takes by a clock that jumps.
        self.broken = 0
        self.claim_s = 0.0
        self.clock: Jumping | None = None
        self.workers = Workers(count, 1 << 20, self, processes=BusyProcesses())

    def submit(self, task: str, payload: bytes = b"null", timeout_s: float = 100.0, deadline: float = inf) -> Job:
        number = len(self.begun) + len(self.waiting) + 1
        job = Job(number, self.registry.by_name[task], payload, Terms(timeout_s, 0), deadline)
        self.waiting.append(job)
        self.workers.wake()
        return job

    def claim(self, _: float) -> Job | None:
        if self.clock is not None:
            self.clock.now += self.claim_s
        if not self.waiting:
            return None
        job = self.waiting.popleft()
        self.begun.append(job.sequence)
        return job

    def settle(self, job: Job, outcome: Outcome, _: float) -> None:
        if self.broken:
            self.broken -= 1
            raise RuntimeError("settle is broken")
        self.settled.append((job.sequence, outcome))
        self.changed.set()

    def write(self, sequence: int, attempt: int, text: bytes) -> None:
        raise AssertionError("no task writes")

    def release(self, job: Job) -> None:
        self.released.append(job.task.index)
        self.changed.set()

    def context(self, job: Job) -> Context:
        return self.contexts.setdefault(job.sequence, Context(str(job.sequence), 1, lambda *_: None))

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    def states(self) -> list[tuple[int, State]]:
        return [(sequence, outcome.state) for sequence, outcome in self.settled]


@asynccontextmanager
async def with_workers(count: int, *tasks: Callable[..., Any]) -> AsyncIterator[Engine]:
    engine = Engine(count, *tasks)
    engine.workers.start()
    try:
        yield engine
    finally:
        await engine.workers.stop()


async def nap(seconds: Any) -> Any:
    await asyncio.sleep(seconds)
    return seconds


def block(seconds: Any) -> Any:
    time.sleep(seconds)
    return seconds


def test_no_more_attempts_run_than_there_are_workers_and_each_is_settled_and_released_once() -> None:
    async def test(_: Jumping) -> None:
        async with with_workers(3, nap) as engine:
            for number in range(10):
                assert engine.submit("nap", b"5").sequence == number + 1
            await asyncio.sleep(1)
            assert (engine.begun, engine.workers.idle, engine.released) == ([1, 2, 3], 0, [])
            await engine.until(lambda: len(engine.released) == 10)
            assert sorted(engine.states()) == [(sequence, State.SUCCEEDED) for sequence in range(1, 11)]
            assert {outcome.result.body for _, outcome in engine.settled if outcome.result} == {b"5"}
            assert (engine.released, engine.workers.replacements) == ([0] * 10, 0)
            await asyncio.sleep(0)
            assert engine.workers.idle == 3

    virtual_time.run(test)


@pytest.mark.parametrize("task", ["nap", "block"])
async def test_a_limit_is_released_once_though_settling_fails(task: str, caplog: pytest.LogCaptureFixture) -> None:
    async with with_workers(2, nap, block) as engine:
        # The first job cannot be settled in either way, the second one can be settled as failed.
        engine.broken = 3
        for _ in range(4):
            engine.submit(task, b"0.001")
        await engine.until(lambda: len(engine.released) == 4 and len(engine.settled) == 3)
        failed = [outcome for _, outcome in engine.settled if outcome.state == State.FAILED]
        assert [(outcome.reason, outcome.error) for outcome in failed] == [
            (Reason.CRASHED, "the attempt could not be settled")
        ]
        await until(lambda: engine.workers.idle == 2)
        assert engine.released == [engine.registry.by_name[task].index] * 4
        assert caplog.text.count("could not be settled") == 2


def test_an_attempt_is_interrupted_at_its_timeout_or_the_deadline_of_its_job() -> None:
    async def test(clock: Jumping) -> None:
        async with with_workers(3, nap) as engine:
            begun = clock.now
            engine.submit("nap", b"60", timeout_s=7)
            engine.submit("nap", b"60", timeout_s=20, deadline=begun + 9)
            engine.submit("nap", b"60", timeout_s=5)
            ended = []
            for count in (1, 2, 3):
                await engine.until(lambda: len(engine.settled) == count)  # noqa: B023 — it is awaited here
                ended.append(clock.now - begun)
            assert ended == pytest.approx([5, 7, 9])
            told = [(sequence, outcome.reason, outcome.may_retry) for sequence, outcome in engine.settled]
            assert told == [(3, Reason.TIMEOUT, True), (1, Reason.TIMEOUT, True), (2, Reason.DEADLINE, False)]

    virtual_time.run(test)


def test_the_time_of_an_attempt_does_not_run_while_it_waits_for_a_process() -> None:
    async def test(clock: Jumping) -> None:
        async with with_workers(3, in_process) as engine:
            begun = clock.now
            engine.submit("in_process", b"2", timeout_s=3)
            engine.submit("in_process", b"60", timeout_s=3)
            engine.submit("in_process", b"2", timeout_s=3, deadline=begun + 10)
            await engine.until(lambda: len(engine.settled) == 1)
            assert clock.now - begun == pytest.approx(10)
            await engine.until(lambda: len(engine.settled) == 3)
            assert clock.now - begun == pytest.approx(BUSY_S + 3)
            told = [(sequence, outcome.state, outcome.reason) for sequence, outcome in engine.settled]
            assert told == [
                (3, State.FAILED, Reason.DEADLINE),
                (1, State.SUCCEEDED, Reason.NONE),
                (2, State.FAILED, Reason.TIMEOUT),
            ]

    virtual_time.run(test)


def test_who_is_cancelled_is_not_settled_and_gives_what_it_holds_to_the_next_at_once() -> None:
    async def test(_: Jumping) -> None:
        async def slow_to_clean(_: object) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.5)

        async with with_workers(2, slow_to_clean, nap) as engine:
            job = engine.submit("slow_to_clean")
            await asyncio.sleep(1)
            engine.workers.cancel(job)
            # What it is limited by is free, its worker is not.
            assert (engine.released, engine.workers.idle) == ([0], 1)
            await asyncio.sleep(0.6)
            assert (engine.settled, engine.workers.idle, engine.workers.replacements) == ([], 2, 0)
            engine.workers.cancel(job)
            assert engine.released == [0]

    virtual_time.run(test)


@pytest.mark.parametrize("why", ["timeout", "cancel"])
def test_a_coroutine_that_does_not_stop_keeps_its_worker_for_the_grace_only(
    why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(clock: Jumping) -> None:
        release = asyncio.Event()

        async def stubborn(_: object) -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        async with with_workers(1, stubborn, nap) as engine:
            first = engine.submit("stubborn", timeout_s=4 if why == "timeout" else 100)
            engine.submit("nap", b"0")
            await asyncio.sleep(4)
            if why == "cancel":
                engine.workers.cancel(first)
            stopped = clock.now
            await engine.until(lambda: engine.settled and engine.settled[-1][0] == 2)
            assert clock.now - stopped == pytest.approx(GRACE_S, abs=0.01)
            assert engine.states() == ([(1, State.FAILED)] if why == "timeout" else []) + [(2, State.SUCCEEDED)]
            assert (engine.workers.replacements, engine.released) == (1, [0, 1])
            # It ends some time, and is not settled again.
            release.set()
            await asyncio.sleep(0.1)
            assert (len(engine.settled), engine.released, engine.workers.idle) == (1 + (why == "timeout"), [0, 1], 1)

    virtual_time.run(test)
    assert "task stubborn ignored its cancellation and was given up" in caplog.text


@pytest.mark.parametrize("why", ["timeout", "cancel"])
async def test_what_a_lost_thread_holds_is_released_when_it_returns(why: str) -> None:
    release = threading.Event()

    def stuck(_: object, context: Context) -> bool:
        release.wait(UNSTOPPABLE_S)
        return context.cancelled

    async with with_workers(1, stuck, nap) as engine:
        job = engine.submit("stuck", timeout_s=0.02 if why == "timeout" else 100)
        await until(lambda: 1 in engine.begun)
        if why == "cancel":
            engine.workers.cancel(job)
        engine.submit("nap", b"0")
        await engine.until(lambda: engine.settled and engine.settled[-1][0] == 2)
        assert (engine.released, engine.workers.threads.lost, engine.workers.replacements) == ([1], 1, 0)
        assert engine.contexts[1].cancelled
        release.set()
        await engine.until(lambda: len(engine.released) == 2)
        assert (engine.released, engine.workers.threads.lost) == ([1, 0], 0)
        assert engine.states() == ([(1, State.FAILED)] if why == "timeout" else []) + [(2, State.SUCCEEDED)]


def test_begins_stop_for_the_sockets_now_and_then() -> None:
    async def test(clock: Jumping) -> None:
        async with with_workers(100, nap) as engine:
            engine.clock = clock
            engine.claim_s = TURN_S * 0.3
            for _ in range(12):
                engine.submit("nap", b"60")
            begun = []
            while len(engine.begun) < 12:
                await asyncio.sleep(0)
                begun.append(len(engine.begun))
            # Four a turn: that is when the time is over.
            assert begun == [4, 8, 12]
            assert engine.begun == list(range(1, 13))

    virtual_time.run(test)


def test_who_is_stopped_is_interrupted_and_not_settled() -> None:
    async def test(_: Jumping) -> None:
        cleaned = []

        async def work(_: object) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                cleaned.append(True)

        async with with_workers(2, work) as engine:
            engine.submit("work")
            await asyncio.sleep(1)
            await engine.workers.stop()
            engine.submit("work")
            await asyncio.sleep(1)
            assert (cleaned, engine.settled, engine.begun) == ([True], [], [1])

    virtual_time.run(test)


def test_the_task_that_the_loop_is_in_is_named() -> None:
    async def test(_: Jumping) -> None:
        named: list[str | None] = []

        async def asking(_: object) -> None:
            named.append(engine.workers.holder(asyncio.get_running_loop()))

        async with with_workers(1, asking) as engine:
            engine.submit("asking")
            await engine.until(lambda: engine.settled)
            assert engine.workers.holder(asyncio.get_running_loop()) is None
            assert named == ["task asking"]

    virtual_time.run(test)


def interrupt(thread: int) -> None:
    """Have an exception raised in a thread, as libraries do that give plain functions a timeout."""
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)) == 1


async def test_a_thread_that_is_interrupted_late_goes_on() -> None:
    threads = []

    def work(_: object) -> None:
        threads.append(threading.get_ident())

    def interrupts_itself(_: object) -> None:
        interrupt(threading.get_ident())
        time.sleep(0.01)

    async with with_workers(1, work, interrupts_itself) as engine:
        engine.submit("work")
        await engine.until(lambda: len(engine.settled) == 1)
        interrupt(threads[0])
        # It is raised when the thread wakes for its next call.
        for count, task in enumerate(("work", "interrupts_itself", "work"), start=2):
            engine.submit(task)
            await engine.until(lambda: len(engine.settled) == count)  # noqa: B023 — it is awaited here
        assert threads[0] == threads[1]
        assert [state for _, state in engine.states()] == [
            State.SUCCEEDED,
            State.SUCCEEDED,
            State.FAILED,
            State.SUCCEEDED,
        ]
        assert engine.settled[2][1].error == "KeyboardInterrupt: "


async def test_where_no_thread_can_be_started_the_attempt_has_failed_and_the_next_one_may_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    failed: list[threading.Thread] = []

    def cannot(thread: threading.Thread) -> None:
        if not failed:
            failed.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    async with with_workers(1, block) as engine:
        monkeypatch.setattr(threading.Thread, "start", cannot)
        engine.submit("block", b"0")
        engine.submit("block", b"0")
        await engine.until(lambda: len(engine.settled) == 2)
        assert engine.states() == [(1, State.FAILED), (2, State.SUCCEEDED)]
        assert "can't start new thread" in engine.settled[0][1].error
        assert engine.settled[0][1].may_retry
        assert engine.released == [0, 0]


def in_use(engine: LocalEngine, task: str) -> int:
    """What is counted against the first limit of ``task``."""
    queue = engine.active.queue
    return queue.lines[queue.line_numbers[engine.registry.by_name[task].index]].limits[0].running


@asynccontextmanager
async def with_processes(*names: str, **options: Any) -> AsyncIterator[LocalEngine]:
    tasks = [
        (getattr(tasks_in_processes, name), Options(name=name, run_in="process", max_concurrent=1, **options))
        for name in names
    ]
    async with engine_of(*tasks, workers=4, processes=2, tasks=[tasks_in_processes.__name__]) as engine:
        pool = engine.active.workers.processes
        assert pool is not None
        await until(lambda: pool.up == 2)
        yield engine


def test_a_limit_of_processes_is_released_by_crash_timeout_and_cancel() -> None:
    async def test() -> None:
        async with with_processes("die", "nap") as engine:
            jobs = [submit(engine, "die", "exit", retries=1) for _ in range(2)]
            jobs.append(submit(engine, "nap", 10, timeout=0.05))
            cancelled = submit(engine, "nap", 10)
            last = submit(engine, "nap", 0)
            assert [(await over(engine, job)).reason for job in jobs] == [Reason.CRASHED] * 2 + [Reason.TIMEOUT]
            await until(lambda: peek(engine, cancelled).state == State.RUNNING)
            assert in_use(engine, "nap") == 1
            now(engine.cancel(peek(engine, cancelled)))
            assert (await over(engine, last)).state == State.SUCCEEDED
            assert (in_use(engine, "nap"), in_use(engine, "die")) == (0, 0)

    run(test)


def test_what_a_job_sets_in_its_context_is_not_there_for_the_next_in_a_process_either() -> None:
    async def test() -> None:
        async with with_processes("look_and_set") as engine:
            seen = [said(engine, await over(engine, submit(engine, "look_and_set", name))) for name in "abcde"]
            assert set(seen) == {'["nobody","0.3333333333333333333333333333"]'}

    run(test)


def test_an_awaitable_in_a_process_is_an_error_that_says_so() -> None:
    async def test() -> None:
        async with with_processes("awaitable") as engine:
            status = await over(engine, submit(engine, "awaitable"))
            assert (status.state, status.reason) == (State.FAILED, Reason.ERROR)
            assert said(engine, status) == "returned coroutine, which only a task on the loop or in a thread may"

    run(test)


def test_what_is_asked_of_a_retry_holds_in_a_process_too() -> None:
    async def test() -> None:
        async with with_processes("ask_badly", "ask_in_a_group", retry_on=KeyError, retries=1) as engine:
            status = await over(engine, submit(engine, "ask_badly"))
            assert (status.reason, status.attempt) == (Reason.ERROR, 1)
            assert "delay=nan is not allowed" in said(engine, status)
            status = await over(engine, submit(engine, "ask_in_a_group"))
            assert (status.reason, status.attempt) == (Reason.ERROR, 2)
            assert said(engine, status) == "ExceptionGroup: group: the task asked for another attempt; KeyError: 'x'"

    run(test)
