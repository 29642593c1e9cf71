"""The log of a job: what attempts write, in order, within its bounds, and again after a restart."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from headway.core.interface import Engine
from headway.core.job import State
from headway.core.job_log import JobLog
from headway.core.status import Status
from headway.core.tasks.context import Context
from headway.core.tasks.retry import Retry

from tests.core.contract.client import becomes, cancel, counts, finished, peek, submit, until
from tests.core.contract.conftest import Start
from tests.core.engines import PATIENCE_S, at_last, known

# Of the log of one job here.
BYTES = 4096
HALF = BYTES // 2


async def says(payload: dict[str, Any], context: Context) -> None:
    """Log the texts, fail as often as is asked for, and then wait if that is asked for."""
    for text in payload["texts"]:
        context.log(text)
    if context.attempt <= payload.get("fails", 0):
        raise Retry(0.001)
    if payload.get("waits"):
        await asyncio.Event().wait()


def says_in_a_thread(payload: dict[str, Any], context: Context) -> None:
    """Log numbered lines as fast as it goes, from so many threads."""

    def write() -> None:
        for number in range(payload["count"]):
            context.log(f"{number:>9}")

    threads = [threading.Thread(target=write) for _ in range(payload.get("threads", 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if context.attempt <= payload.get("fails", 0):
        raise Retry(0.001)


async def reports(payload: list[tuple[int, str]], context: Context) -> None:
    """Report progress with messages, and wait."""
    for percent, message in payload:
        context.progress(percent, message)
    await asyncio.Event().wait()


def reports_in_a_thread(count: int, context: Context) -> None:
    """Report a message a line, and wait for the cancellation."""
    for number in range(count):
        context.progress(50, f"line {number}")
    while not context.cancelled:
        time.sleep(0.005)


TASKS = (says, says_in_a_thread, reports, reports_in_a_thread)


async def log_of(engine: Engine, job: Status) -> JobLog:
    return await known(engine.log(await peek(engine, job)))


async def has_logged(engine: Engine, job: Status, length: int) -> JobLog:
    """Return the log of a job once it has ``length`` bytes."""
    log = await log_of(engine, job)
    async with asyncio.timeout(PATIENCE_S):
        while log.total < length:
            status = await at_last(engine.wait_log(await peek(engine, job), log.total, PATIENCE_S))
            log = await log_of(engine, status)
    return log


@asynccontextmanager
async def a_second_line_in_memory(start: Start) -> AsyncIterator[tuple[Engine, Status]]:
    """Give a running job of which clients have read the first line, and that has just logged the second."""
    go, gone_on = asyncio.Event(), asyncio.Event()

    async def says_twice(_: object, context: Context) -> None:
        context.log("one")
        await go.wait()
        context.log("two")
        gone_on.set()
        await asyncio.Event().wait()

    async with start(says_twice) as engine:
        job = await submit(engine, "says_twice")
        await has_logged(engine, job, 4)
        go.set()
        await gone_on.wait()
        yield engine, job


async def test_a_job_that_logs_nothing_has_an_empty_log(engine: Engine) -> None:
    job = await finished(engine, await submit(engine, "double", 1))
    assert await log_of(engine, job) == JobLog()


@pytest.mark.parametrize("end", [{}, {"fails": 1000}, {"waits": True}], ids=["succeeded", "failed", "cancelled"])
async def test_the_whole_log_is_there_at_the_end(engine: Engine, end: dict[str, Any]) -> None:
    job = await submit(engine, "says", {"texts": ["one", "two\nthree"], **end}, retries=0)
    if "waits" in end:
        await has_logged(engine, job, 14)
        await cancel(engine, job)
    await finished(engine, job)
    assert (await log_of(engine, job)).text() == b"one\ntwo\nthree\n"


async def test_a_log_is_shown_while_its_job_runs(engine: Engine) -> None:
    job = await submit(engine, "says", {"texts": ["begun"], "waits": True})
    assert (await has_logged(engine, job, 6)).text() == b"begun\n"
    assert (await peek(engine, job)).state == State.RUNNING


@pytest.mark.parametrize("task", ["says", "says_in_a_thread"])
async def test_a_further_attempt_goes_on_in_the_log(engine: Engine, task: str) -> None:
    payload = {"texts": [f"{0:>9}"], "count": 1, "fails": 2}
    job = await finished(engine, await submit(engine, task, payload, retries=2))
    line = b"        0\n"
    assert job.attempt == 3
    assert (await log_of(engine, job)).text() == line + b"--- attempt 2 ---\n" + line + b"--- attempt 3 ---\n" + line


async def test_the_last_text_of_a_thread_comes_before_that_of_the_next_attempt(start: Start) -> None:
    def says_twice(_: object, context: Context) -> None:
        context.log("one")
        time.sleep(0.01)
        # The loop has just looked, and does so again in a while.
        context.log("two")
        if context.attempt == 1:
            raise Retry(0.001)

    async with start(says_twice) as engine:
        job = await finished(engine, await submit(engine, "says_twice", retries=1))
        assert (await log_of(engine, job)).text() == b"one\ntwo\n--- attempt 2 ---\none\ntwo\n"


async def test_the_last_text_of_a_job_that_is_cancelled_is_there(start: Start) -> None:
    async with a_second_line_in_memory(start) as (engine, job):
        # With a journal the second line is not written yet.
        await cancel(engine, job)
        assert (await log_of(engine, job)).text() == b"one\ntwo\n"


@pytest.mark.parametrize("threads", [1, 4])
async def test_a_long_log_keeps_beginning_and_end_and_counts_the_rest(start: Start, threads: int) -> None:
    count = 20_000
    async with start(*TASKS, results={"log_bytes": BYTES}) as engine:
        job = await finished(engine, await submit(engine, "says_in_a_thread", {"count": count, "threads": threads}))
        log = await log_of(engine, job)
        assert log.total == 10 * count * threads
        assert (len(log.head), len(log.tail)) == (HALF, HALF)
        assert log.head.startswith(b"        0\n")
        assert log.tail.endswith(b"%9d\n" % (count - 1))
        if threads == 1:
            whole = b"".join(b"%9d\n" % number for number in range(count))
            assert (log.head, log.tail) == (whole[:HALF], whole[-HALF:])


async def test_a_log_that_grows_slowly_keeps_its_bounds(start: Start) -> None:
    async def grows(_: object, context: Context) -> None:
        for number in range(30):
            context.log(f"{number:>999}")
            await asyncio.sleep(0.05)

    async with start(grows, results={"log_bytes": BYTES}) as engine:
        job = await submit(engine, "grows")
        whole = b"".join(b"%999d\n" % number for number in range(30))
        seen = 0
        while (await peek(engine, job)).state != State.SUCCEEDED:
            log = await log_of(engine, job)
            # Never less than was shown before.
            assert log.total >= seen
            assert (log.head, log.tail) == (whole[: len(log.head)], whole[log.total - len(log.tail) : log.total])
            assert len(log.head) + len(log.tail) <= BYTES
            seen = log.total
            await asyncio.sleep(0.01)
        log = await log_of(engine, job)
        assert (log.head, log.tail, log.total) == (whole[:HALF], whole[-HALF:], 30_000)


async def test_logs_in_memory_are_given_up_for_others_the_oldest_first(start: Start) -> None:
    async with start(*TASKS, results={"log_bytes": 1 << 16, "log_max_bytes": 50_000}) as engine:
        texts = [f"{number}" * 9999 for number in range(10)]
        jobs = [await finished(engine, await submit(engine, "says", {"texts": [text]})) for text in texts]
        logs = [await log_of(engine, job) for job in jobs]
        assert [log.total for log in logs] == [10_000] * 10
        assert logs[-1].text() == b"9" * 9999 + b"\n"
        kept = [log.left_out == 0 for log in logs]
        # Where there is a disk they are there for as long as their jobs are.
        assert kept == [number >= 6 or engine.durability != "memory" for number in range(10)]
        assert logs[0].left_out in (0, 10_000)


async def test_a_log_takes_no_more_of_the_budget_once_its_job_has_ended(start: Start) -> None:
    async with start(*TASKS, results={"log_max_bytes": 5000}) as engine:
        jobs = [await finished(engine, await submit(engine, "says", {"texts": [str(n)]})) for n in range(30)]
        texts = [(await log_of(engine, job)).text() for job in jobs]
        # In memory the last ones are kept: of the others the lengths take some of the budget.
        first = 28 if engine.durability == "memory" else 0
        assert texts[first:] == [b"%d\n" % n for n in range(first, 30)]


async def test_logs_of_jobs_that_run_keep_to_the_budget_as_well(start: Start) -> None:
    async with start(*TASKS, workers=20, results={"log_bytes": 1 << 16, "log_max_bytes": 100_000}) as engine:
        texts = [f"{number:>999}" for number in range(60)]
        jobs = [await submit(engine, "says", {"texts": texts, "waits": True}) for _ in range(20)]
        logs = [await has_logged(engine, job, 60_000) for job in jobs]
        assert [log.total for log in logs] == [60_000] * 20
        kept = sum(len(log.head) + len(log.tail) for log in logs)
        # Elsewhere the budget is for what is not written yet.
        assert 50_000 < kept < 100_000 if engine.durability == "memory" else kept > 100_000
        assert all((log.head + log.tail) == b"" or log.head.startswith(b" ") for log in logs)


async def test_who_waits_for_more_is_woken_by_more_by_the_end_and_by_time(engine: Engine) -> None:
    job = await becomes(engine, await submit(engine, "says", {"texts": ["one"], "waits": True}), State.RUNNING)
    await has_logged(engine, job, 4)
    # There is more already.
    assert (await at_last(engine.wait_log(job, 3, PATIENCE_S))).state == State.RUNNING
    began = time.monotonic()
    assert (await at_last(engine.wait_log(job, 4, 0.2))).state == State.RUNNING
    assert time.monotonic() - began >= 0.1
    later = engine.wait_log(job, 4, PATIENCE_S)
    woken = asyncio.Event()
    later.when_known(woken.set)
    assert (await counts(engine)).waiting_clients == 1
    await cancel(engine, job)
    async with asyncio.timeout(PATIENCE_S):
        await woken.wait()
    assert later.value().state == State.CANCELLED
    assert (await counts(engine)).waiting_clients == 0
    # It has ended since.
    assert (await at_last(engine.wait_log(job, 4, PATIENCE_S))).state == State.CANCELLED


async def test_who_waits_for_more_is_not_woken_before_there_is_more_to_read(start: Start) -> None:
    async with a_second_line_in_memory(start) as (engine, job):
        # With a journal the second line is in memory alone for up to a second.
        status = await at_last(engine.wait_log(await peek(engine, job), 4, PATIENCE_S))
        assert (await log_of(engine, status)).text() == b"one\ntwo\n"


async def test_who_waits_for_a_far_place_is_not_woken_by_text_before_it(start: Start) -> None:
    async def says_slowly(_: object, context: Context) -> None:
        for number in range(6):
            context.log(f"{number:>99}")
            await asyncio.sleep(0.01)
        await asyncio.Event().wait()

    async with start(says_slowly) as engine:
        job = await becomes(engine, await submit(engine, "says_slowly"), State.RUNNING)
        near, far = engine.wait_log(job, 0, PATIENCE_S), engine.wait_log(job, 500, PATIENCE_S)
        beyond = engine.wait_log(job, 10_000, PATIENCE_S)
        woken: list[str] = []
        beyond.when_known(lambda: woken.append("beyond"))
        await asyncio.gather(*map(at_last, (near, far)))
        assert (await log_of(engine, job)).total == 600
        assert (woken, (await counts(engine)).waiting_clients) == ([], 1)
        await cancel(engine, job)
        assert woken == ["beyond"]


async def test_who_waits_for_more_may_go(engine: Engine) -> None:
    job = await becomes(engine, await submit(engine, "says", {"texts": [], "waits": True}), State.RUNNING)
    later = engine.wait_log(job, 0, PATIENCE_S)
    later.when_known(lambda: pytest.fail("it had gone"))
    later.cancel()
    assert (await counts(engine)).waiting_clients == 0
    await cancel(engine, job)
    await asyncio.sleep(0.01)


async def reported(engine: Engine, job: Status, progress: int, message: str) -> None:
    """See the report of a job: with a store it is there in a moment."""

    async def is_there() -> bool:
        status = await peek(engine, job)
        return (status.progress, status.message) == (progress, message)

    await until(is_there)


async def test_a_message_is_shown_while_its_attempt_runs(engine: Engine) -> None:
    job = await becomes(engine, await submit(engine, "reports", [(10, "one"), (40, "page 12 of 30")]), State.RUNNING)
    await reported(engine, job, 40, "page 12 of 30")
    assert (await cancel(engine, job)).message == ""
    job = await becomes(engine, await submit(engine, "reports", [(10, "one"), (40, "")]), State.RUNNING)
    await reported(engine, job, 40, "")


async def test_the_last_of_many_messages_of_a_thread_is_shown(engine: Engine) -> None:
    job = await submit(engine, "reports_in_a_thread", 50_000)

    async def last() -> bool:
        return (await peek(engine, job)).message == "line 49999"

    await until(last)


async def test_a_further_attempt_has_no_message_of_the_last(start: Start) -> None:
    async def fails_first(_: object, context: Context) -> None:
        if context.attempt == 1:
            context.progress(90, "nearly there")
            raise Retry(0.001)
        await asyncio.Event().wait()

    async with start(fails_first) as engine:
        job = await submit(engine, "fails_first", retries=1)

        async def again() -> bool:
            status = await peek(engine, job)
            return (status.state, status.attempt) == (State.RUNNING, 2)

        await until(again)
        status = await peek(engine, job)
        assert (status.progress, status.message) == (None, "")


async def test_a_log_outlives_a_restart_and_goes_on(start: Start) -> None:
    async with start(*TASKS) as engine:
        durable = engine.durability != "memory"
        done = await finished(engine, await submit(engine, "says", {"texts": ["done"]}))
        job = await submit(engine, "says", {"texts": ["first life"], "waits": True})
        await has_logged(engine, job, 11)
    if not durable:
        return
    async with start(*TASKS) as engine:
        assert (await log_of(engine, done)).text() == b"done\n"
        log = await has_logged(engine, job, 30)
        attempt = (await peek(engine, job)).attempt
        assert log.text() == b"first life\n--- attempt %d ---\nfirst life\n" % attempt


@pytest.mark.parametrize("fails", [0, 1])
async def test_a_log_is_deleted_with_the_result(start: Start, fails: int) -> None:
    async with start(*TASKS) as engine:
        job = await finished(engine, await submit(engine, "says", {"texts": ["a secret"], "fails": fails}, retries=0))
        other = await finished(engine, await submit(engine, "says", {"texts": ["done"]}))
        assert (await log_of(engine, job)).text() == b"a secret\n"
        await cancel(engine, job)
        assert (await log_of(engine, job)) == JobLog()
        assert (await log_of(engine, other)).text() == b"done\n"
