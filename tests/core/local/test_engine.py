"""The engine without a socket: what becomes of jobs."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from headway.core.errors import DrainingError, NotFailedError, PayloadGoneError, QueueFullError, UnknownTaskError
from headway.core.interface import Page
from headway.core.job import Job, Reason, State
from headway.core.local.engine import LocalEngine
from headway.core.retry_after.estimate import CONNECTION, SUCCESSOR_S
from headway.core.retry_after.pace import WIDTH
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Options, Registry
from headway.core.tasks.retry import Retry

from tests.core.engines import (
    PATIENCE_S,
    UNSTOPPABLE_S,
    broken,
    double,
    engine_with,
    forever,
    now,
    over,
    peek,
    run,
    said,
    settings,
    submit,
    triple,
    until,
)


@pytest.mark.parametrize(("function", "expected"), [(double, "14"), (triple, "21")], ids=["coroutine", "plain"])
def test_a_job_runs_and_its_result_is_kept(function: Callable[..., Any], expected: str) -> None:
    async def test() -> None:
        async with engine_with(function) as engine:
            job_id = submit(engine, function.__name__, 7)
            assert peek(engine, job_id).state == State.QUEUED
            status = await over(engine, job_id)
            assert (status.state, status.attempt) == (State.SUCCEEDED, 1)
            assert status.submitted <= status.started <= status.ended
            assert said(engine, status) == expected

    run(test)


def test_a_failed_job_says_why_after_all_its_attempts() -> None:
    async def test() -> None:
        async with engine_with(broken) as engine:
            status = await over(engine, submit(engine, "broken", "no such luck", retries=2))
            assert (status.state, status.reason, status.attempt) == (State.FAILED, Reason.ERROR, 3)
            assert said(engine, status) == "ValueError: no such luck"
            assert engine.active.stats.retries == 2

    run(test)


def raises(error: BaseException) -> Callable[[object], Any]:
    async def raising(_: object) -> None:
        raise error

    return raising


def raises_in_thread(error: BaseException) -> Callable[[object], Any]:
    def raising(_: object) -> None:
        raise error

    return raising


@pytest.mark.parametrize("where", [raises, raises_in_thread])
@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), BaseException("odd"), StopIteration(), asyncio.CancelledError()]
)
def test_whatever_a_task_raises_is_its_own_failure(
    where: Callable[[BaseException], Callable[[object], Any]], error: BaseException
) -> None:
    async def test() -> None:
        async with engine_with(where(error), double) as engine:
            status = await over(engine, submit(engine, "raising"))
            assert (status.state, status.reason) == (State.FAILED, Reason.ERROR)
            assert engine.active.workers.replacements == 0
            assert (await over(engine, submit(engine, "double", 1))).state == State.SUCCEEDED

    run(test)


def test_an_attempt_that_takes_too_long_is_cancelled_and_its_worker_lives() -> None:
    cleaned = []

    async def slow(_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    async def test() -> None:
        async with engine_with(slow, double, workers=1) as engine:
            status = await over(engine, submit(engine, "slow", timeout=0.05))
            assert (status.state, status.reason) == (State.FAILED, Reason.TIMEOUT)
            assert 0.05 <= status.ended - status.started < 1
            assert cleaned
            assert "0.05 s" in said(engine, status)
            assert (await over(engine, submit(engine, "double", 1))).state == State.SUCCEEDED
            assert engine.active.workers.replacements == 0

    run(test)


def test_a_short_timeout_is_kept_beside_a_long_one() -> None:
    async def test() -> None:
        async with engine_with(forever) as engine:
            submit(engine, "forever", timeout=1000)
            status = await over(engine, submit(engine, "forever", timeout=0.05))
            assert status.ended - status.started < 1

    run(test)


def test_a_coroutine_that_ignores_its_cancellation_loses_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.core.work.workers.GRACE_S", 0.05)
    release = asyncio.Event()

    async def stubborn(_: object) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def test() -> None:
        async with engine_with(stubborn, double, workers=1) as engine:
            status = await over(engine, submit(engine, "stubborn", timeout=0.05))
            assert (status.state, status.reason) == (State.FAILED, Reason.TIMEOUT)
            assert (await over(engine, submit(engine, "double", 1))).state == State.SUCCEEDED
            assert engine.active.workers.replacements == 1
            assert engine.active.workers.idle == 1
            release.set()

    run(test)


def test_a_thread_that_runs_out_of_time_is_lost_until_it_returns() -> None:
    release = threading.Event()

    def stuck(_: object, context: Context) -> None:
        release.wait(UNSTOPPABLE_S)
        assert context.cancelled

    async def test() -> None:
        async with engine_with(stuck, triple, workers=1, limits={"lost_threads": 0}) as engine:
            status = await over(engine, submit(engine, "stuck", timeout=0.05))
            assert (status.state, status.reason) == (State.FAILED, Reason.TIMEOUT)
            assert engine.active.workers.threads.lost == 1
            assert "1 threads are lost" in (engine.not_ready or "")
            release.set()
            await until(lambda: engine.active.workers.threads.lost == 0)
            assert engine.not_ready is None
            assert (await over(engine, submit(engine, "triple", 1))).state == State.SUCCEEDED

    run(test)


def test_progress_is_seen_while_the_job_runs() -> None:
    async def reporting(_: object, context: Context) -> None:
        context.progress(41.9)
        await asyncio.Event().wait()

    def reporting_thread(_: object, context: Context) -> None:
        context.progress(42)
        while not context.cancelled:
            time.sleep(0.001)

    async def test() -> None:
        async with engine_with(reporting, reporting_thread) as engine:
            loop, thread = submit(engine, "reporting"), submit(engine, "reporting_thread")
            await until(lambda: peek(engine, loop).progress == 41)
            await until(lambda: peek(engine, thread).progress == 42)
            assert [peek(engine, job).state for job in (loop, thread)] == [State.RUNNING] * 2
            now(engine.cancel(peek(engine, thread)))

    run(test)


def test_a_context_tells_the_id_that_clients_know() -> None:
    async def which(_: object, context: Context) -> str:
        return context.id

    async def test() -> None:
        async with engine_with(which) as engine:
            job_id = submit(engine, "which")
            assert said(engine, await over(engine, job_id)) == f'"{job_id.decode()}"'

    run(test)


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_progress_outside_0_to_100_is_the_tasks_error(percent: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 100"):
        Context("id", 1, lambda _: None).progress(percent)


def test_a_running_job_is_cancelled_at_once() -> None:
    async def test() -> None:
        async with engine_with(forever, double, workers=1) as engine:
            job_id = submit(engine, "forever")
            await until(lambda: peek(engine, job_id).state == State.RUNNING)
            now(engine.cancel(peek(engine, job_id)))
            assert peek(engine, job_id).state == State.CANCELLED
            assert engine.active.jobs == {}
            assert (await over(engine, submit(engine, "double", 1))).state == State.SUCCEEDED
            assert engine.active.workers.replacements == 0

    run(test)


def test_jobs_that_wait_are_cancelled_and_never_run() -> None:
    ran = []

    async def record(payload: str) -> None:
        ran.append(payload)

    async def test() -> None:
        async with engine_with(forever, record, workers=1) as engine:
            blocker = submit(engine, "forever")
            await until(lambda: peek(engine, blocker).state == State.RUNNING)
            queued, scheduled = submit(engine, "record", "queued"), submit(engine, "record", "scheduled", delay=0.01)
            last = submit(engine, "record", "last")
            now(engine.cancel(peek(engine, queued)))
            now(engine.cancel(peek(engine, scheduled)))
            now(engine.cancel(peek(engine, blocker)))
            await over(engine, last)
            assert ran == ["last"]

    run(test)


def test_a_delayed_job_starts_when_it_is_due() -> None:
    async def test() -> None:
        async with engine_with(double) as engine:
            later, sooner = submit(engine, "double", 1, delay=0.1), submit(engine, "double", 1, delay=0.05)
            assert peek(engine, later).state == State.SCHEDULED
            assert 50 <= peek(engine, sooner).retry_after_ms <= 2000
            status = await over(engine, sooner)
            assert status.started - status.submitted >= 0.05
            status = await over(engine, later)
            assert status.started - status.submitted >= 0.1
            assert engine.active.stats.wait.sum < 0.1

    run(test)


def test_higher_priorities_run_first() -> None:
    order = []

    async def record(payload: int) -> None:
        order.append(payload)

    async def test() -> None:
        async with engine_with(record, workers=1) as engine:
            jobs = [submit(engine, "record", p, priority=p) for p in (0, 5, 9, 5)]
            assert [peek(engine, job_id).position for job_id in jobs] == [3, 1, 0, 2]
            await over(engine, jobs[0])
            assert order == [9, 5, 5, 0]

    run(test)


def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    async def test() -> None:
        async with engine_with(forever, workers=1, queue={"size": 2}) as engine:
            running = submit(engine, "forever")
            await until(lambda: peek(engine, running).state == State.RUNNING)
            kept = [submit(engine, "forever"), submit(engine, "forever", delay=60)]
            with pytest.raises(QueueFullError) as refused:
                submit(engine, "forever")
            assert refused.value.retry_after_s >= 1
            assert [peek(engine, job_id).state for job_id in kept] == [State.QUEUED, State.SCHEDULED]
            now(engine.cancel(peek(engine, kept[1])))
            submit(engine, "forever")

    run(test)


def test_an_unknown_task_is_refused_and_the_known_ones_are_named() -> None:
    async def test() -> None:
        async with engine_with(double) as engine:
            with pytest.raises(UnknownTaskError, match=r"'dubble' is not one of: double"):
                submit(engine, "dubble")

    run(test)


def test_jobs_expire_by_count_and_strangers_are_told_from_them() -> None:
    async def test() -> None:
        async with engine_with(double, retention={"jobs": 2}, queue={"size": 2}) as engine:
            jobs = []
            for number in range(30):
                jobs.append(submit(engine, "double", number))
                await over(engine, jobs[-1])
            states = [peek(engine, job_id).state for job_id in jobs]
            assert states == [State.EXPIRED] * 28 + [State.SUCCEEDED] * 2
            assert engine.peek(b"0" * 28) is None
            assert engine.peek(jobs[0][:-1] + (b"0" if jobs[0][-1:] != b"0" else b"1")) is None
            assert engine.peek(jobs[-1][:-1] + (b"0" if jobs[-1][-1:] != b"0" else b"1")) is None

    run(test)


def test_jobs_expire_by_time_with_their_results() -> None:
    async def test() -> None:
        async with engine_with(double, retention={"seconds": 0.05}) as engine:
            job_id = submit(engine, "double", 1)
            await until(lambda: peek(engine, job_id).state == State.EXPIRED)
            deque(engine.active.results.trim(time.monotonic()), 0)
            assert len(engine.active.results) == 0

    run(test)


def test_a_drain_waits_for_all_that_was_taken() -> None:
    async def test() -> None:
        async with engine_with(double, broken) as engine:
            jobs = [submit(engine, "double", 1), submit(engine, "double", 1, delay=0.05)]
            jobs.append(submit(engine, "broken", "again", retries=1))
            assert await engine.drain(PATIENCE_S) == 0
            states = [peek(engine, job_id).state for job_id in jobs]
            assert states == [State.SUCCEEDED, State.SUCCEEDED, State.FAILED]
            with pytest.raises(DrainingError):
                submit(engine, "double", 1)
            assert engine.not_ready == "draining"

    run(test)


def test_a_drain_that_runs_out_of_time_tells_how_many_are_left() -> None:
    async def test() -> None:
        async with engine_with(forever) as engine:
            submit(engine, "forever")
            submit(engine, "forever")
            assert await engine.drain(0.05) == 2

    run(test)


def test_who_would_come_after_the_end_of_a_drain_is_told_to_come_to_the_successor() -> None:
    async def test() -> None:
        async with engine_with(forever) as engine:
            running, *waiting = [submit(engine, "forever") for _ in range(4)]
            await until(lambda: peek(engine, running).state == State.RUNNING)
            assert peek(engine, waiting[-1]).retry_after_ms <= 1100
            draining = asyncio.create_task(engine.drain(0.3))
            await asyncio.sleep(0)
            for job_id in (running, *waiting):
                assert (0.3 + SUCCESSOR_S - 0.1) * 1000 < peek(engine, job_id).retry_after_ms < 3000
            await draining
            engine.resume()
            # Of what was promised meanwhile nothing is taken back.
            assert peek(engine, submit(engine, "forever")).retry_after_ms <= 1100

    run(test)


def test_who_would_come_before_the_end_of_a_drain_may() -> None:
    async def test() -> None:
        async with engine_with(forever) as engine:
            running = submit(engine, "forever")
            await until(lambda: peek(engine, running).state == State.RUNNING)
            draining = asyncio.create_task(engine.drain(5.0))
            await asyncio.sleep(0)
            assert peek(engine, running).retry_after_ms < 1500
            draining.cancel()

    run(test)


def test_who_come_back_to_a_successor_come_slower_than_polls() -> None:
    async def test() -> None:
        polling = {"capacity": 1000, "share": 0.5}
        async with engine_with(forever, polling=polling) as engine:
            jobs = [submit(engine, "forever") for _ in range(300)]
            draining = asyncio.create_task(engine.drain(0.0))
            await asyncio.sleep(0)
            told = sorted(peek(engine, job_id).retry_after_ms for job_id in jobs)
            assert told[-1] - told[0] == pytest.approx(1000 * 300 / (500 / CONNECTION), rel=0.1)
            await draining

    run(test)


def test_the_estimate_grows_with_the_jobs_ahead() -> None:
    async def fifty_ms(_: object) -> None:
        await asyncio.sleep(0.05)

    async def test() -> None:
        async with engine_with(fifty_ms, workers=1) as engine:
            first = submit(engine, "fifty_ms")
            assert 950 <= peek(engine, first).retry_after_ms <= 1050
            await over(engine, first)
            jobs = [submit(engine, "fifty_ms") for _ in range(20)]
            hint = peek(engine, jobs[-1]).retry_after_ms
            assert 20 * 50 < hint < 40 * 50
            assert peek(engine, jobs[0]).retry_after_ms < hint / 4

    run(test)


def test_the_estimate_follows_what_a_job_reports() -> None:
    async def a_quarter(_: object, context: Context) -> None:
        await asyncio.sleep(0.1)
        context.progress(25)
        await asyncio.Event().wait()

    async def test() -> None:
        async with engine_with(a_quarter, workers=1) as engine:
            job_id = submit(engine, "a_quarter")
            await until(lambda: peek(engine, job_id).progress == 25)
            # Of 1 s that were told at first, 0.9 are left.
            assert 250 < peek(engine, job_id).retry_after_ms < 400

    run(test)


def test_a_job_that_can_begin_at_once_is_not_told_to_wait_for_others() -> None:
    async def tenth(_: object) -> None:
        await asyncio.sleep(0.1)

    async def test() -> None:
        async with engine_with(tenth, workers=1) as engine:
            await over(engine, submit(engine, "tenth"))
            told = [peek(engine, submit(engine, "tenth")).retry_after_ms for _ in range(3)]
            assert told[0] < 180 < told[1] < 290 < told[2]

    run(test)


def test_a_list_promises_nothing() -> None:
    async def test() -> None:
        async with engine_with(forever, polling={"capacity": 20, "share": 1.0}) as engine:
            jobs = [submit(engine, "forever") for _ in range(3)]
            before = peek(engine, jobs[0]).retry_after_ms
            for _ in range(100):
                assert [status.retry_after_ms for status in engine.list_jobs(State.QUEUED, 0, 50).jobs] == [0, 0, 0]
            assert peek(engine, jobs[0]).retry_after_ms < before + 200

    run(test)


def test_a_settled_job_is_forgotten_but_for_its_row() -> None:
    async def test() -> None:
        async with engine_with(double) as engine:
            for _ in range(50):
                await over(engine, submit(engine, "double", 1))
            assert engine.active.jobs == dict[int, Job]()
            assert len(engine.active.queue) == 0

    run(test)


def test_a_task_may_ask_for_another_attempt_with_its_own_delay() -> None:
    async def patient(_: object, context: Context) -> int:
        if context.attempt < 3:
            raise Retry(delay=0.05)
        return context.attempt

    async def test() -> None:
        async with engine_with(patient, jobs={"backoff": 100, "backoff_max": 100}) as engine:
            status = await over(engine, submit(engine, "patient", retries=2))
            assert (status.state, said(engine, status)) == (State.SUCCEEDED, "3")
            assert status.started - status.submitted >= 0.1
            status = await over(engine, submit(engine, "patient", retries=1))
            assert (status.state, status.attempt) == (State.FAILED, 2)

    run(test)


def test_only_errors_that_are_named_are_tried_again() -> None:
    async def picky(payload: str) -> None:
        raise {"again": OSError, "never": ValueError}[payload]("no")

    async def test() -> None:
        registry = Registry()
        registry.add(picky, Options(retry_on=OSError, retries=1))
        engine = LocalEngine(settings(), registry)
        engine.start()
        assert (await over(engine, submit(engine, "picky", "again"))).attempt == 2
        assert (await over(engine, submit(engine, "picky", "never"))).attempt == 1
        await engine.stop()

    run(test)


@pytest.mark.parametrize("waits", ["queued", "scheduled", "retrying", "running"])
def test_a_deadline_ends_a_job_wherever_it_stands(waits: str) -> None:
    async def again(_: object) -> None:
        raise Retry(delay=0.5)

    async def test() -> None:
        async with engine_with(forever, again, workers=1) as engine:
            if waits == "queued":
                submit(engine, "forever")
            task, delay = ("again", 0) if waits == "retrying" else ("forever", 60 if waits == "scheduled" else 0)
            job_id = submit(engine, task, delay=delay, deadline=0.6 if waits == "retrying" else 0.1, retries=5)
            await until(lambda: peek(engine, job_id).state == State[waits.upper()])
            status = await over(engine, job_id)
            assert (status.state, status.reason) == (State.FAILED, Reason.DEADLINE)
            assert len(engine.active.deadlines) == 0
            assert len(engine.active.queue) == 0

    run(test)


def test_a_limited_task_does_not_take_all_workers_nor_keep_others_waiting() -> None:
    running = most = 0

    async def limited(_: object) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    async def test() -> None:
        registry = Registry()
        registry.add(limited, Options(max_concurrent=2))
        registry.add(double, Options())
        engine = LocalEngine(settings(workers=4), registry)
        engine.start()
        jobs = [submit(engine, "limited", priority=9) for _ in range(20)]
        other = submit(engine, "double", 1, priority=0)
        status = await over(engine, other)
        assert peek(engine, jobs[-1]).state == State.QUEUED
        assert status.state == State.SUCCEEDED
        for job_id in jobs:
            assert (await over(engine, job_id)).state == State.SUCCEEDED
        assert most == 2
        await engine.stop()

    run(test)


def test_a_cancelled_job_leaves_its_place_to_the_next_of_its_kind() -> None:
    async def test() -> None:
        registry = Registry()
        registry.add(forever, Options(max_concurrent=1))
        engine = LocalEngine(settings(workers=4), registry)
        engine.start()
        first, second = submit(engine, "forever"), submit(engine, "forever")
        await until(lambda: peek(engine, first).state == State.RUNNING)
        now(engine.cancel(peek(engine, first)))
        await until(lambda: peek(engine, second).state == State.RUNNING)
        assert peek(engine, first).state == State.CANCELLED
        await engine.stop()

    run(test)


def test_a_failed_job_can_be_sent_again_as_it_was() -> None:
    payloads = []

    async def once(payload: str) -> None:
        payloads.append(payload)
        if len(payloads) == 1:
            raise ValueError(payload)

    async def test() -> None:
        async with engine_with(once) as engine:
            old = await over(engine, submit(engine, "once", "the same", priority=7))
            new = now(engine.retry(old)).status
            assert new.sequence != old.sequence
            status = await over(engine, new.id)
            assert status.state == State.SUCCEEDED
            assert payloads == ["the same"] * 2
            assert peek(engine, old.id).state == State.FAILED
            with pytest.raises(NotFailedError):
                now(engine.retry(status))
            now(engine.cancel(old))
            with pytest.raises(PayloadGoneError):
                now(engine.retry(old))

    run(test)


def test_jobs_are_listed_newest_first_by_state() -> None:
    async def test() -> None:
        async with engine_with(broken, double) as engine:
            for number in range(10):
                await over(engine, submit(engine, "broken" if number % 2 else "double", number))
            first = engine.list_jobs(State.FAILED, 0, 3)
            assert first.after is not None
            rest = engine.list_jobs(State.FAILED, first.after, 100)
            assert [status.sequence for status in first.jobs + rest.jobs] == [10, 8, 6, 4, 2]
            assert rest.after is None
            assert engine.list_jobs(State.RUNNING, 0, 10) == Page([], None)

    run(test)


def test_a_task_that_blocks_the_loop_is_named_once_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    async def blocking(_: object) -> None:
        time.sleep(1.0)  # noqa: ASYNC251 — what the watchdog is for

    async def test() -> None:
        async with engine_with(blocking, watchdog={"stall": 0.1}) as engine:
            await over(engine, submit(engine, "blocking"))
            await until(lambda: engine.watchdog.lag.sum > 0.5)

    run(test)
    stalls = [record.getMessage() for record in caplog.records if "event loop blocked" in record.getMessage()]
    assert len(stalls) == 1
    assert "by task blocking" in stalls[0]
    assert "time.sleep(1.0)" in stalls[0]


def test_who_asks_before_he_was_told_to_takes_no_second_promise() -> None:
    async def test() -> None:
        async with engine_with(forever) as engine:
            job_id = submit(engine, "forever")
            await until(lambda: peek(engine, job_id).state == State.RUNNING)
            told = peek(engine, job_id).retry_after_ms
            promised = promises(engine)
            assert all(0 < peek(engine, job_id).retry_after_ms <= told for _ in range(1000))
            assert promises(engine) == promised

    def promises(engine: LocalEngine) -> int:
        return sum(entry % WIDTH for entry in engine.active.estimate.pace._entries)

    run(test)


async def waiting(_: object) -> None:
    await asyncio.sleep(PATIENCE_S)


def test_jobs_that_come_at_once_all_begin_in_a_few_turns_of_the_loop() -> None:
    async def main() -> None:
        async with engine_with(waiting, workers=8) as engine:
            await asyncio.sleep(0)
            for _ in range(20):
                submit(engine, "waiting")
            for _ in range(4):
                await asyncio.sleep(0)
            assert engine.board.count[State.RUNNING] == 8

    asyncio.run(main())
