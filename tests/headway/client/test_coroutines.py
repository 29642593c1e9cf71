"""``AsyncClient`` on a live server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from headway.client import AsyncClient, JobCancelled, JobFailed, Submission, TimedOut
from tests.end_to_end.process import Gate, Server
from tests.headway.client.counted import Counted


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def test_forty_waits_take_forty_requests(server: Server) -> None:
    async def run() -> None:
        async with Counted() as http, AsyncClient(url(server), http=http) as client:
            jobs = await asyncio.gather(*(client.submit("sleep", {"seconds": 0.3}) for _ in range(40)))
            http.seen.clear()
            ended = await asyncio.gather(*(job.wait() for job in jobs))
            assert {status.state for status in ended} == {"succeeded"}
            assert len(http.seen) == 40

    asyncio.run(run())


@pytest.mark.long
def test_more_waits_than_connections(server: Server) -> None:
    """Without a batch, so that the lists are looked at."""

    async def run() -> None:
        async with Counted() as http, AsyncClient(url(server), http=http) as client:
            jobs = await asyncio.gather(*(client.submit("sleep", {"seconds": 0.4}) for _ in range(200)))
            http.seen.clear()
            ended = await asyncio.gather(*(job.wait() for job in jobs))
            assert {status.state for status in ended} == {"succeeded"}
            assert len(http.ports) <= 50
            assert len(http.seen) <= 1.8 * 200

    asyncio.run(run())


def test_each_call_has_its_coroutine(server: Server, gate: Gate) -> None:
    async def run() -> None:
        async with AsyncClient(url(server)) as client:
            job = await client.submit("give", 7)
            assert await job.result() == 7
            assert await client.job(job.url).raw_result() == (b"7", "application/json")
            failed = await client.submit("fail", {"message": "no"})
            assert (await failed.wait()).detail == "RuntimeError: no"
            with pytest.raises(JobFailed, match="no"):
                await (await failed.retry()).result()
            waiting = await client.submit("until_file", gate.path)
            with pytest.raises(TimedOut):
                await waiting.wait(timeout=0.1)
            assert (await waiting.status()).state == "running"
            await waiting.cancel()
            with pytest.raises(JobCancelled):
                await waiting.result()
            batch = await client.submit_batch([Submission("give", 1), Submission("until_file", gate.path)])
            assert (await client.batch(batch.id).status()).pending == 1
            await batch.cancel()
            assert (await batch.wait()).cancelled == 1

    asyncio.run(run())


def test_a_cancelled_wait_gives_its_connection_back(server: Server, gate: Gate) -> None:
    async def run() -> None:
        async with AsyncClient(url(server), connections=2) as client:
            waiting = await client.submit("until_file", gate.path)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waiting.wait(), 0.1)
            began = time.monotonic()
            job = await client.submit("sleep", {"seconds": 0.2})
            await job.wait()
            assert time.monotonic() - began < 1
            gate.open()
            assert (await waiting.wait()).state == "succeeded"

    asyncio.run(run())


def test_the_first_to_end_is_known_first_whatever_waits(server: Server, gate: Gate) -> None:
    """Nine waits in ten hold a connection each; the others are looked at."""

    async def run() -> None:
        async with AsyncClient(url(server), connections=4) as client:
            slow = [await client.submit("until_file", gate.path) for _ in range(20)]
            waits = [asyncio.create_task(job.wait()) for job in slow]
            await asyncio.sleep(0.1)
            job = await client.submit("sleep", {"seconds": 0.2})
            began = time.monotonic()
            assert (await job.wait(timeout=10)).state == "succeeded"
            assert time.monotonic() - began < 5
            gate.open()
            assert {status.state for status in await asyncio.gather(*waits)} == {"succeeded"}

    asyncio.run(run())


def test_map_yields_in_the_order_of_completion(server: Server, gate: Gate) -> None:
    async def run() -> None:
        async with AsyncClient(url(server)) as client:
            paths = [gate.path, *("/" for _ in range(160))]
            seen = []
            async for job in client.map("until_file", paths, window=80):
                seen.append(job.payload)
                if len(seen) == 160:
                    gate.open()
            assert seen == [*("/" for _ in range(160)), gate.path]

    asyncio.run(run())


def test_a_client_of_its_own_is_left_open(server: Server) -> None:
    async def run() -> None:
        async with Counted() as http:
            for _ in range(2):
                async with AsyncClient(url(server), http=http) as client:
                    assert await (await client.submit("give", 1)).result() == 1

    asyncio.run(run())


def test_map_takes_payloads_as_room_comes(server: Server) -> None:
    unfinished: list[int] = []
    yielded = 0

    def payloads() -> Iterator[int]:
        for number in range(40):
            unfinished.append(number + 1 - yielded)
            yield number

    async def run() -> None:
        nonlocal yielded
        async with AsyncClient(url(server)) as client:
            async for _ in client.map("give", payloads(), window=8):
                yielded += 1

    asyncio.run(run())
    assert yielded == 40
    assert max(unfinished) == 8


def test_a_map_that_is_left_leaves_no_task(server: Server, gate: Gate) -> None:
    async def run() -> None:
        async with AsyncClient(url(server)) as client:
            jobs = client.map("until_file", ["/", gate.path])
            async for job in jobs:
                assert job.payload == "/"
                break
            await jobs.aclose()
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
