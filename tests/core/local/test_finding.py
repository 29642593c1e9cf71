"""All jobs that fit a filter, for an order about many, and the turns of searches."""

from __future__ import annotations

import asyncio

import pytest
from headway.core.errors import UnknownTaskError
from headway.core.job import State
from headway.core.job_filter import JobFilter
from headway.core.local.engine import LocalEngine
from headway.core.local.finding import PAGE_MOST

from tests.core.engines import broken, double, engine_with, known, now, over, submit

WAITING = JobFilter(states=frozenset({State.SCHEDULED}))


async def all_of(engine: LocalEngine, wanted: JobFilter) -> list[int]:
    found: list[int] = []
    async for some in engine.finding.each(wanted):
        assert some
        found += some
    return found


def sequence(engine: LocalEngine, job_id: bytes) -> int:
    status = now(engine.peek(job_id))
    assert status is not None
    return status.sequence


async def test_each_job_is_found_once_and_none_that_comes_later() -> None:
    async with engine_with(double, queue={"size": 100_000}) as engine:
        jobs = [sequence(engine, submit(engine, "double", 1, delay=60)) for _ in range(5000)]
        found: list[int] = []
        async for some in engine.finding.each(WAITING):
            found += some
            for _ in range(10):
                submit(engine, "double", 1, delay=60)
        assert found == jobs[::-1]


async def test_jobs_are_counted_by_task() -> None:
    async with engine_with(double, broken) as engine:
        for number in range(30):
            await over(engine, submit(engine, "broken" if number % 3 else "double", number, tags=(f"{number % 2}",)))
        assert await engine.finding.count(JobFilter()) == {"broken": 20, "double": 10}
        assert await engine.finding.count(JobFilter(tag="1")) == {"broken": 10, "double": 5}
        assert await engine.finding.count(JobFilter(error="valueerror: 2")) == {"broken": 8}
        assert await engine.finding.count(JobFilter(states=frozenset({State.RUNNING}))) == {}
        with pytest.raises(UnknownTaskError):
            await engine.finding.count(JobFilter(task="nobody"))


async def test_a_page_has_as_many_jobs_as_can_be_described_at_once() -> None:
    async with engine_with(double, queue={"size": 100_000}) as engine:
        for _ in range(PAGE_MOST + 50):
            submit(engine, "double", 1, delay=60)
        page = await known(engine.find(WAITING, 0, 1000))
        assert len(page.jobs) == PAGE_MOST
        assert page.after is not None
        assert len((await known(engine.find(WAITING, page.after, 1000))).jobs) == 50


async def test_a_job_that_changes_before_a_search_describes_it_is_not_listed() -> None:
    async with engine_with(double) as engine:
        jobs = [submit(engine, "double", 1, delay=60) for _ in range(PAGE_MOST)]
        # Its first slice finds them all, and describes a few of them.
        page = engine.find(WAITING, 0, 1000)
        for job in jobs:
            status = now(engine.peek(job))
            assert status is not None
            engine.cancel(status)
        listed = (await known(page)).jobs
        assert {status.state for status in listed} == {State.SCHEDULED}
        assert len(listed) < PAGE_MOST


async def test_searches_take_turns_and_one_that_is_given_up_holds_no_other() -> None:
    async with engine_with(double, queue={"size": 100_000}) as engine:
        for number in range(3000):
            submit(engine, "double", number, delay=60, tags=("odd",) if number % 2 else ())
        orders = [asyncio.ensure_future(all_of(engine, WAITING)) for _ in range(10)]
        await asyncio.sleep(0)
        for order in orders[::2]:
            order.cancel()
        found = await asyncio.wait_for(asyncio.gather(*orders[1::2]), 5)
        assert [len(some) for some in found] == [3000] * 5
