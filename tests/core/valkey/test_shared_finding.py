"""Jobs of all nodes are found in the order of their numbers, whatever lies between, by short scripts."""

from __future__ import annotations

import asyncio
import time

import pytest
from headway.core.errors import UnknownTaskError
from headway.core.job import State
from headway.core.job_filter import JobFilter

from tests.core.engines import known
from tests.core.valkey.stores import reached
from tests.valkey_servers import StoreServer

QUEUED = frozenset({State.QUEUED})


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("limit", [1, 7, 250])
async def test_jobs_of_all_partitions_come_newest_first(store_url: str, partitions: int, limit: int) -> None:
    async with reached(f"{store_url}?partitions={partitions}") as one:
        jobs, tagged, others = [], [], []
        for number in range(15):
            partition = number % 4 % partitions
            jobs += await one.submit(number % 3 + 1, partition=partition)
            tagged += await one.submit(1, partition=partition, tags=("a", f"t{number}"), delay_ms=10_000)
            others += await one.submit(1, task="other", partition=partition)
        everything = sorted(jobs + tagged + others, reverse=True)
        assert await one.found(limit) == everything
        assert await one.found(limit, task="other") == sorted(others, reverse=True)
        assert await one.found(limit, tag="a") == sorted(tagged, reverse=True)
        assert await one.found(limit, tag="t3") == [tagged[3]]
        assert await one.found(limit, states=QUEUED) == sorted(jobs + others, reverse=True)
        assert await one.found(limit, states=QUEUED, tag="a") == []
        assert await one.found(limit, submitted_before=time.time() - 60) == []
        assert await one.found(limit, submitted_after=time.time() - 60) == everything
        assert await one.found(limit, submitted_after=time.time() + 60) == []
        assert await one.found(limit, ended_after=time.time() - 60) == []


async def test_jobs_far_apart_are_found_in_a_few_calls(store_url: str, store: StoreServer) -> None:
    """Numbers of jobs that are gone cost nothing, however many they are."""
    database = int(store_url.rpartition("/")[2])
    async with reached(store_url) as one:
        first = await one.submit(3)
        for number in range(1, 4):
            # As if millions of jobs had come, ended and expired since.
            store.ask("SET", "hw:{0}:n", number * 51_200_000 - 1, database=database)
            first += await one.submit(1)
        begun = time.perf_counter()
        assert await one.found() == first[::-1]
        assert time.perf_counter() - begun < 1


async def test_a_call_that_finds_nothing_takes_the_store_some_milliseconds(store_url: str, store: StoreServer) -> None:
    async with reached(store_url) as one:
        for _ in range(20):
            await one.submit(1000)
        store.ask("CONFIG", "SET", "slowlog-log-slower-than", 0)
        store.ask("CONFIG", "SET", "slowlog-max-len", 100_000)
        store.ask("SLOWLOG", "RESET")
        # A page is short rather than late.
        page = await known(one.finding.find(JobFilter(states=frozenset({State.FAILED})), 0, 50))
        assert page.jobs == []
        assert await one.found(states=frozenset({State.FAILED})) == []
        with store.client() as client:
            calls = [entry for entry in client.slowlog_get(100_000) if entry["command"].startswith(b"EVALSHA")]
        store.ask("CONFIG", "SET", "slowlog-log-slower-than", 10_000)
        assert len(calls) >= 40
        # Of a machine that is not the test's alone the quickest call tells.
        assert min(entry["duration"] for entry in calls) < 5_000


async def test_a_page_that_was_begun_goes_on_below_while_jobs_come(store_url: str) -> None:
    async with reached(store_url) as one:
        jobs = await one.submit(20)
        page = await known(one.finding.find(JobFilter(), 0, 5))
        await one.submit(10)
        rest = []
        while page.after is not None:
            page = await known(one.finding.find(JobFilter(), page.after, 5))
            rest += [job.sequence for job in page.jobs]
        assert rest == jobs[:15][::-1]


async def test_an_unknown_task_is_named(store_url: str) -> None:
    async with reached(store_url) as one:
        with pytest.raises(UnknownTaskError, match="'dubble' is not one of: double, other"):
            one.finding.find(JobFilter(task="dubble"), 0, 50)


async def test_an_order_is_about_jobs_of_before(store_url: str) -> None:
    async with reached(f"{store_url}?partitions=2") as one:
        before = [await one.submit(2), await one.submit(2, partition=1)]
        await asyncio.sleep(0.005)
        (order,) = await one.submit(1, task="headway.cancel")
        facts = await known(one.finding.find(JobFilter(), 0, 1))
        await asyncio.sleep(0.005)
        await one.submit(2)
        await one.submit(2, partition=1)
        since_ms = round(facts.jobs[0].submitted * 1000)
        for keys, jobs in zip(one.store.keys, before, strict=True):
            found = [job async for some in one.finding.each(JobFilter(), keys, order, since_ms) for job in some]
            assert found == jobs[::-1]
        assert await one.finding.count(JobFilter()) == {"double": 8}
