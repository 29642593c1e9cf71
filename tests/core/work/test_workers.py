"""How many run, and in which order: limits, places that come free, threads that do not come back."""

import asyncio
import ctypes
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from headway.core.job import Job, Reason, State
from headway.core.local.engine import LocalEngine
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Options
from headway.core.tasks.retry import Retry
from headway.core.work.outcome import Outcome

from tests.core.engines import (
    UNSTOPPABLE_S,
    double,
    engine_of,
    engine_with,
    now,
    over,
    peek,
    run,
    said,
    submit,
    triple,
    until,
)
from tests.core.processes import tasks_in_processes


class Count:
    """How many are inside at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


def running(engine: LocalEngine, task: str) -> int:
    """What is counted against the first limit of ``task``."""
    return engine.active.queue._line_of[engine.registry.by_name[task].index].limits[0].running


def end(how: str, attempt: int) -> None:
    """End a first attempt as ``how`` says, and a second one well."""
    if attempt > 1:
        return
    if how == "error":
        raise ValueError("no")
    if how == "retry":
        raise Retry(0.01)
    if how == "bad retry":
        retry = Retry()
        retry.delay = "soon"  # type: ignore[assignment]
        raise retry


def counted(inside: Count, lane: str, how: str) -> Callable[..., Any]:
    """Return a function for ``lane`` whose first attempts end as ``how`` says."""
    stopped = how in ("timeout", "deadline", "cancel")

    async def on_loop(_: object, context: Context) -> None:
        with inside:
            await asyncio.sleep(10 if stopped else 0.005)
            end(how, context.attempt)

    def in_thread(_: object, context: Context) -> None:
        with inside:
            time.sleep(0.1 if stopped else 0.005)
            end(how, context.attempt)

    return on_loop if lane == "loop" else in_thread


LANES = pytest.mark.parametrize("lane", ["loop", "thread"])


@pytest.mark.parametrize("how", ["return", "error", "retry", "bad retry", "timeout", "deadline", "cancel"])
@LANES
def test_max_concurrent_holds_however_attempts_end(lane: str, how: str) -> None:
    inside = Count()

    async def test() -> None:
        options = Options(
            name="work",
            max_concurrent=2,
            retries=1,
            timeout=0.03 if how == "timeout" else None,
            deadline=0.03 if how == "deadline" else None,
        )
        async with engine_of((counted(inside, lane, how), options), workers=6) as engine:
            jobs = [submit(engine, "work") for _ in range(6)]
            if how == "cancel":
                await until(lambda: engine.board.count[State.RUNNING] == 2)
                for job in jobs[:3]:
                    now(engine.cancel(peek(engine, job)))
                await until(lambda: inside.now == 2)
                for job in jobs[3:]:
                    now(engine.cancel(peek(engine, job)))
            for job in jobs:
                await over(engine, job)
            await until(lambda: running(engine, "work") == 0)
            assert inside.most == 2
            assert engine.active.workers.threads.lost == 0

    run(test)


@LANES
def test_a_limit_is_released_once_though_settling_fails(lane: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = Count()

    async def test() -> None:
        options = Options(name="work", max_concurrent=2)
        async with engine_of((counted(inside, lane, "return"), options), workers=6) as engine:
            settle, raised = engine.active.workers.settle, 0

            def broken(job: Job, outcome: Outcome, now: float) -> None:
                nonlocal raised
                raised += 1
                if raised <= 3:
                    raise RuntimeError("settle is broken")
                settle(job, outcome, now)

            monkeypatch.setattr(engine.active.workers, "settle", broken)
            for _ in range(8):
                submit(engine, "work")
            await until(lambda: engine.active.workers.idle == 6 and not engine.active.queue.ready)
            assert running(engine, "work") == 0
            assert inside.most == 2

    run(test)


@pytest.mark.parametrize("how", ["cancel", "timeout", "deadline"])
def test_a_limit_holds_until_a_thread_that_was_given_up_returns(how: str) -> None:
    inside, release = Count(), threading.Event()

    def alone(_: object) -> None:
        with inside:
            release.wait(UNSTOPPABLE_S)

    async def test() -> None:
        async with engine_of((alone, Options(max_concurrent=1)), workers=4) as engine:
            first = submit(engine, "alone", **({how: 0.1} if how != "cancel" else {}))
            second = submit(engine, "alone")
            await until(lambda: inside.now == 1)
            if how == "cancel":
                now(engine.cancel(peek(engine, first)))
            await over(engine, first)
            await asyncio.sleep(0.05)
            assert (inside.now, peek(engine, second).state) == (1, State.QUEUED)
            release.set()
            # It is woken by the thread, and by nothing else.
            assert (await over(engine, second)).state == State.SUCCEEDED
            assert inside.most == 1

    run(test)


def test_a_cancel_gives_the_place_of_a_coroutine_to_the_next_at_once() -> None:
    begun = []

    async def slow_to_clean(seconds: float) -> None:
        begun.append(time.monotonic())
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.sleep(0.5)

    async def test() -> None:
        async with engine_of((slow_to_clean, Options(max_concurrent=1)), workers=4) as engine:
            first, _ = submit(engine, "slow_to_clean", 10), submit(engine, "slow_to_clean", 0)
            await until(lambda: len(begun) == 1)
            cancelled = time.monotonic()
            now(engine.cancel(peek(engine, first)))
            await until(lambda: len(begun) == 2)
            assert begun[1] - cancelled < 0.25

    run(test)


def test_a_cancelled_coroutine_that_does_not_stop_keeps_its_worker_for_the_grace_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("headway.core.work.workers.GRACE_S", 0.1)
    release = asyncio.Event()

    async def stubborn(_: object) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def test() -> None:
        async with engine_with(stubborn, double, workers=1) as engine:
            first, second = submit(engine, "stubborn", timeout=1000), submit(engine, "double", 1)
            await until(lambda: peek(engine, first).state == State.RUNNING)
            await asyncio.sleep(0.01)
            cancelled = time.monotonic()
            now(engine.cancel(peek(engine, first)))
            assert (await over(engine, second)).state == State.SUCCEEDED
            assert 0.05 < time.monotonic() - cancelled < 1
            assert engine.active.workers.replacements == 1
            release.set()
            await asyncio.sleep(0.01)
            assert peek(engine, first).state == State.CANCELLED

    run(test)
    assert "ignored its cancellation" in caplog.text


def test_between_lines_of_one_priority_the_job_that_came_first_goes_first() -> None:
    order = []

    async def plain(number: int) -> None:
        order.append(number)

    async def limited(number: int) -> None:
        order.append(number)

    async def test() -> None:
        async with engine_of((plain, Options()), (limited, Options(max_concurrent=1)), workers=1) as engine:
            jobs = [submit(engine, ("plain", "limited")[number // 2 % 2], number) for number in range(8)]
            await over(engine, jobs[-1])
            for job in jobs:
                await over(engine, job)
            assert order == list(range(8))

    run(test)


def test_jobs_for_threads_wait_while_all_threads_are_lost() -> None:
    release, ran = threading.Event(), []

    def stuck(_: object) -> None:
        release.wait(UNSTOPPABLE_S)

    def work(_: object) -> None:
        ran.append(1)

    async def test() -> None:
        async with engine_with(stuck, work, double, workers=1, limits={"lost_threads": 1}) as engine:
            for lost in (1, 2, 3):
                status = await over(engine, submit(engine, "stuck", timeout=0.02))
                assert status.reason == Reason.TIMEOUT
                assert (engine.not_ready is None) == (lost == 1)
            job = submit(engine, "work", timeout=0.02)
            # No other job waits behind it.
            assert (await over(engine, submit(engine, "double", 1))).state == State.SUCCEEDED
            await asyncio.sleep(0.1)
            assert (peek(engine, job).state, peek(engine, job).attempt, ran) == (State.QUEUED, 0, [])
            release.set()
            status = await over(engine, job)
            assert (status.state, status.attempt, ran) == (State.SUCCEEDED, 1, [1])
            await until(lambda: engine.not_ready is None)

    run(test)


def test_a_drain_begins_what_waits_for_a_thread_though_the_server_is_not_ready() -> None:
    release = threading.Event()

    def stuck(_: object) -> None:
        release.wait(UNSTOPPABLE_S)

    def work(_: object) -> int:
        return 1

    async def test() -> None:
        async with engine_with(stuck, work, workers=1, limits={"lost_threads": 0}) as engine:
            await over(engine, submit(engine, "stuck", timeout=0.02))
            assert engine.not_ready is not None
            job = submit(engine, "work")
            assert await engine.drain(5) == 0
            assert peek(engine, job).state == State.SUCCEEDED
            release.set()

    run(test)


def test_the_time_of_an_attempt_runs_from_its_beginning() -> None:
    async def blocks(seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 — that is what it is for

    async def quick(_: object) -> None:
        await asyncio.sleep(0)

    async def test() -> None:
        async with engine_with(blocks, quick, workers=4) as engine:
            submit(engine, "blocks", 0.2)
            jobs = [submit(engine, "quick", timeout=0.1) for _ in range(3)]
            for job in jobs:
                assert (await over(engine, job)).state == State.SUCCEEDED

    run(test)


def test_begins_stop_for_the_sockets_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.core.work.workers.TURN_S", 0.0)
    begun = []

    async def waiting(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(0)

    async def test() -> None:
        async with engine_with(waiting, workers=100) as engine:
            jobs = [submit(engine, "waiting", number) for number in range(100)]
            await asyncio.sleep(0)
            assert engine.board.count[State.RUNNING] < 100
            for job in jobs:
                await over(engine, job)
            assert begun == list(range(100))

    run(test)


@pytest.mark.parametrize(("backoff", "most"), [(0.01, 0.05), (0.02, 0.02)])
def test_the_backoff_doubles_up_to_its_most_less_up_to_half(
    backoff: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 300 waits for each attempt the least and the longest are near the ends of what is promised."""
    waits: dict[int, list[float]] = {}

    async def failing(_: object) -> None:
        raise ValueError("again")

    async def test() -> None:
        changed = {"jobs": {"backoff": backoff, "backoff_max": most}, "workers": 8, "queue": {"size": 1000}}
        async with engine_with(failing, **changed) as engine:
            delay = engine.active.queue.delay

            settle = engine.active._settle
            settled: list[float] = []

            def settling(job: Job, outcome: Outcome, now: float) -> None:
                settled.append(now)
                settle(job, outcome, now)

            def delayed(sequence: int, due: float) -> None:
                attempt = engine.board.attempt(engine.board.at(sequence))
                waits.setdefault(attempt, []).append(due - settled[-1])
                delay(sequence, due)

            monkeypatch.setattr(engine.active.workers, "settle", settling)
            monkeypatch.setattr(engine.active.queue, "delay", delayed)
            logging.getLogger("headway").setLevel(logging.ERROR)
            try:
                for job in [submit(engine, "failing", retries=5) for _ in range(300)]:
                    assert (await over(engine, job)).attempt == 6
            finally:
                logging.getLogger("headway").setLevel(logging.NOTSET)

    run(test)
    assert sorted(waits) == [1, 2, 3, 4, 5]
    for attempt, found in waits.items():
        longest = min(backoff * 2 ** (attempt - 1), most)
        assert 0.5 * longest <= min(found) < 0.55 * longest
        assert 0.95 * longest < max(found) <= longest * 1.0001


def test_no_attempt_is_waited_for_that_would_come_after_the_deadline() -> None:
    async def later(seconds: float) -> None:
        raise Retry(seconds)

    async def test() -> None:
        async with engine_with(later) as engine:
            status = await over(engine, submit(engine, "later", 10, retries=3, deadline=9.9))
            assert (status.state, status.reason, status.attempt) == (State.FAILED, Reason.DEADLINE, 1)
            assert status.ended - status.submitted < 2
            status = await over(engine, submit(engine, "later", 0.01, retries=1, deadline=5))
            assert (status.reason, status.attempt) == (Reason.ERROR, 2)
            assert "another attempt" in said(engine, status)

    run(test)


def interrupt(thread: int) -> None:
    """Have an exception raised in a thread, as libraries do that give plain functions a timeout."""
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)) == 1


def test_a_thread_that_is_interrupted_late_goes_on() -> None:
    threads = []

    def work(_: object) -> None:
        threads.append(threading.get_ident())

    def interrupts_itself(_: object) -> None:
        interrupt(threading.get_ident())
        time.sleep(0.01)

    async def test() -> None:
        async with engine_with(work, interrupts_itself, workers=1) as engine:
            await over(engine, submit(engine, "work"))
            interrupt(threads[0])
            # It is raised when the thread wakes for its next call.
            assert (await over(engine, submit(engine, "work"))).state == State.SUCCEEDED
            assert threads[0] == threads[1]
            status = await over(engine, submit(engine, "interrupts_itself"))
            assert said(engine, status) == "KeyboardInterrupt: "
            assert (await over(engine, submit(engine, "work"))).state == State.SUCCEEDED

    run(test)


def test_where_no_thread_can_be_started_the_attempt_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    failed: list[threading.Thread] = []

    def cannot(thread: threading.Thread) -> None:
        if not failed:
            failed.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    async def test() -> None:
        async with engine_of((triple, Options(max_concurrent=1)), workers=2) as engine:
            monkeypatch.setattr(threading.Thread, "start", cannot)
            status = await over(engine, submit(engine, "triple", 2, retries=1))
            assert (status.state, status.attempt, said(engine, status)) == (State.SUCCEEDED, 2, "6")
            assert running(engine, "triple") == 0

    run(test)


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
            assert running(engine, "nap") == 1
            now(engine.cancel(peek(engine, cancelled)))
            assert (await over(engine, last)).state == State.SUCCEEDED
            assert (running(engine, "nap"), running(engine, "die")) == (0, 0)

    run(test)


def test_the_time_of_an_attempt_does_not_run_while_it_waits_for_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with with_processes("nap", timeout=0.3) as engine:
            pool = engine.active.workers.processes
            assert pool is not None
            take = pool._next

            async def none_for_a_while() -> Any:
                await asyncio.sleep(0.5)
                return await take()

            monkeypatch.setattr(pool, "_next", none_for_a_while)
            assert (await over(engine, submit(engine, "nap", 0))).state == State.SUCCEEDED
            status = await over(engine, submit(engine, "nap", 0, deadline=0.1))
            assert status.reason == Reason.DEADLINE

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
