"""A thousand waits in one client: few requests, few connections, and the end known soon."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from headway.client import AsyncClient, AsyncJob
from tests.end_to_end.process import TASKS, Server
from tests.headway.client.counted import MOST, Counted

pytestmark = pytest.mark.long

JOBS = 1000
# Most requests for a wait, and seconds to the knowledge of an end in 99 of 100.
REQUESTS, KNOWN_S = 1.8, 1.0


async def submitted(client: AsyncClient, how: str, seconds: tuple[float, float]) -> list[AsyncJob]:
    """Submit the jobs, each by itself or as one batch."""
    payloads = [{"seconds": random.uniform(*seconds)} for _ in range(JOBS)]
    if how == "batch":
        return await client.submit_many("sleep", payloads)
    return await asyncio.gather(*(client.submit("sleep", payload) for payload in payloads))


async def known(jobs: list[AsyncJob]) -> dict[str, float]:
    """Wait for all at once. Return the time of day at which each was known to have succeeded."""
    times = {}

    async def wait(job: AsyncJob) -> None:
        status = await job.wait()
        times[job.id] = time.time()
        assert status.state == "succeeded", status

    await asyncio.gather(*(wait(job) for job in jobs))
    return times


def ends(server: Server, ids: set[str]) -> dict[str, float]:
    """Return the time of day at which each job ended, as the server's list tells it."""
    found: dict[str, float] = {}
    page: Any = "/jobs?state=succeeded&limit=1000"
    while page and not ids <= found.keys():
        said = server.get(page).json
        found |= {job["id"]: datetime.fromisoformat(job["ended"]).timestamp() for job in said["jobs"]}
        page = said["next"]
    return {job_id: found[job_id] for job_id in ids}


@pytest.mark.parametrize("how", ["each", "batch"])
@pytest.mark.parametrize(("workers", "seconds"), [(32, (0.1, 1.0)), (320, (0.5, 5.0)), (1000, (0.5, 5.0))])
def test_a_thousand_waits(start: Any, how: str, workers: int, seconds: tuple[float, float]) -> None:
    """With 32 workers those that run have connections; with 320 and 1,000 most that run have none."""
    server = start(workers=workers)

    async def run() -> None:
        async with Counted() as http, AsyncClient(f"http://127.0.0.1:{server.port}", http=http) as client:
            jobs = await submitted(client, how, seconds)
            http.seen.clear()
            began = time.time()
            times = await known(jobs)
            assert len(http.seen) <= REQUESTS * JOBS
            assert len(http.ports) <= MOST
        over = ends(server, set(times))
        # Some have ended before the last was submitted.
        late = sorted(times[job_id] - max(over[job_id], began) for job_id in times)
        assert late[int(JOBS * 0.99)] <= KNOWN_S, late[-20:]

    asyncio.run(run())


@pytest.mark.parametrize("how", ["each", "batch"])
def test_a_thousand_waits_through_a_kill_and_a_deploy(tmp_path: Path, how: str) -> None:
    """Each wait ends with the state that the journal has."""
    settings = {"tasks": TASKS, "journal__path": str(tmp_path / "journal.db"), "workers": 100, "drain_linger": 0}
    servers = [Server(tmp_path, settings | {"server__port": 0})]

    async def run() -> None:
        servers[0].wait_until_serving()
        port = servers[0].port
        async with AsyncClient(f"http://127.0.0.1:{port}", patience=60) as client:
            jobs = await submitted(client, how, (0.1, 1.0))
            waits = asyncio.create_task(known(jobs))
            await asyncio.sleep(1.5)
            servers[0].process.kill()
            await asyncio.to_thread(servers[0].wait)
            await asyncio.sleep(1)
            servers.append(Server(tmp_path, settings | {"server__port": port}))
            await asyncio.to_thread(servers[1].wait_until_serving)
            await asyncio.sleep(1)
            assert not waits.done()
            await asyncio.to_thread(servers[1].deploy)
            times = await waits
            assert len(times) == JOBS
        assert len(ends(servers[1], set(times))) == JOBS
        servers[1].signal(signal.SIGTERM)
        assert await asyncio.to_thread(servers[1].wait) == 0

    try:
        asyncio.run(run())
    finally:
        for server in servers:
            server.kill()


def test_each_submission_makes_one_job_through_a_kill(tmp_path: Path) -> None:
    settings = {"tasks": TASKS, "journal__path": str(tmp_path / "journal.db"), "drain_linger": 0}
    servers = [Server(tmp_path, settings | {"server__port": 0})]
    left = iter(range(JOBS))

    async def run() -> None:
        servers[0].wait_until_serving()
        port = servers[0].port
        async with AsyncClient(f"http://127.0.0.1:{port}", patience=60) as client:

            async def submit() -> list[AsyncJob]:
                return [await client.submit("give", number) for number in left]

            submitters = [asyncio.create_task(submit()) for _ in range(20)]
            await asyncio.sleep(0.3)
            servers[0].process.kill()
            await asyncio.to_thread(servers[0].wait)
            assert not any(submitter.done() for submitter in submitters)
            servers.append(Server(tmp_path, settings | {"server__port": port}))
            await asyncio.to_thread(servers[1].wait_until_serving)
            jobs = [job for part in await asyncio.gather(*submitters) for job in part]
            assert sorted(await asyncio.gather(*(job.result() for job in jobs))) == list(range(JOBS))
        assert servers[1].stats()["jobs"]["succeeded"] == JOBS
        servers[1].signal(signal.SIGTERM)
        assert await asyncio.to_thread(servers[1].wait) == 0

    try:
        asyncio.run(run())
    finally:
        for server in servers:
            server.kill()
