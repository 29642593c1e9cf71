"""The engine on other stores than one Valkey: on a cluster of three primaries, and on Redis 7.0."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import pytest
from headway.core.errors import EngineAwayError, KeyReusedError, PayloadGoneError, QueueFullError, UnknownTaskError
from headway.core.interface import Engine
from headway.core.job import State
from headway.core.job_filter import JobFilter
from headway.core.key import Key
from headway.core.later import known
from headway.core.order import Action
from headway.core.tasks.registry import Options
from headway.core.valkey.engine import ValkeyEngine

from tests.core.contract.client import (
    asked_for,
    attempts,
    batch_finished,
    cancel,
    clear,
    counts,
    finished,
    jobs_in,
    peek,
    submit,
    submit_batch,
)
from tests.core.contract.conftest import started
from tests.core.engines import broken, double, forever
from tests.valkey_servers import Cluster, cluster_of, redis_binary, serving

# Nodes and servers that begin, die and come back take their time.
pytestmark = pytest.mark.long

LIMIT = 2


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(tmp_path) as cluster:
        yield cluster


@pytest.fixture(params=["cluster", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "cluster":
        yield request.getfixturevalue("cluster").url
    else:
        with serving(tmp_path, redis_binary()) as server:
            yield server.url


def node(url: str, **changed: object) -> AbstractAsyncContextManager[Engine]:
    """Run a node. Two jobs of ``forever`` run at once."""
    limited = forever, Options(max_concurrent=LIMIT)
    return started({"engine": url}, double, broken, limited, workers=4, **changed)


async def test_nodes_share_all_jobs(url: str) -> None:
    async with node(url) as one, node(url) as two:
        jobs = [await submit((one, two)[number % 2], "double", number) for number in range(40)]
        for number, job in enumerate(jobs):
            ended = await finished((two, one)[number % 2], job)
            assert ended.state == State.SUCCEEDED
            assert await peek(one, job) == await peek(two, job)
        batch = await submit_batch(one, *["double"] * 50, "broken")
        status = await batch_finished(two, batch)
        assert (status.succeeded, status.failed, status.expired) == (50, 1, 0)
        assert len(await known(two.list_batch(status))) == 51
        assert [job.state for job in await jobs_in(two, State.FAILED)] == [State.FAILED]
        assert sum((await counts(one)).jobs) == 91
        newest = await jobs_in(one, State.SUCCEEDED, limit=7)
        assert {job.id for job in jobs} < {job.id for job in newest}
        assert len(newest) == 90


async def test_a_limit_is_that_of_all_nodes(url: str) -> None:
    async with node(url) as one, node(url) as two:
        jobs = [await submit((one, two)[number % 2], "forever") for number in range(6)]
        running = [job for job in jobs if (await becomes_or_waits(one, job)) == State.RUNNING]
        assert len(running) == LIMIT
        await cancel(two, running[0])
        async with asyncio.timeout(5):
            while (await counts(one)).jobs[State.RUNNING] < LIMIT:  # noqa: ASYNC110 — as a client does
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert (await counts(two)).jobs[State.RUNNING] == LIMIT
        await clear(one)


async def becomes_or_waits(engine: Engine, job: object) -> int:
    """Return the state of a job after there was time to begin it."""
    await asyncio.sleep(0.2)
    return (await peek(engine, job)).state  # type: ignore[arg-type]


async def test_a_node_takes_the_tasks_of_others_and_runs_its_own(store_url: str) -> None:
    chosen = {"engine": store_url}
    async with started(chosen, double) as one:
        with pytest.raises(UnknownTaskError, match="'broken' is not one of: double"):
            await known(one.submit(asked_for("broken", 1)))
        async with started(chosen, broken) as two:
            jobs = [await submit(engine, task, 1) for engine in (one, two) for task in ("double", "broken")]
            assert [(await finished(one, job)).state for job in jobs] == [State.SUCCEEDED, State.FAILED] * 2
            for engine in (one, two):
                assert sorted(task.name for task in await known(engine.tasks())) == ["broken", "double"]
                found = await known(engine.task("broken"))
                assert found is not None
                assert (found.failed, found.run_in) == (2, "loop")
                with pytest.raises(UnknownTaskError, match="'none' is not one of: broken, double"):
                    await known(engine.submit_batch([asked_for("double", 1), asked_for("none")]))
            ran = [(await attempts(engine))[1] for engine in (one, two)]
            assert [sum(times.buckets) for times in ran] == [2, 2]
        # Its last node has gone.
        async with asyncio.timeout(10):
            while await known(one.task("broken")) is not None:  # noqa: ASYNC110 — as a client does
                await asyncio.sleep(0.1)
        with pytest.raises(UnknownTaskError):
            await known(one.submit(asked_for("broken", 1)))
        # Nobody would run it.
        with pytest.raises(PayloadGoneError):
            await known(one.retry(await peek(one, jobs[1]), None))


@pytest.mark.parametrize("task", ["double", "forever"])
async def test_a_key_is_known_at_all_nodes(url: str, task: str) -> None:
    async with node(url) as one, node(url) as two:
        for text in ("a", "b", "c", "d"):
            job = await submit(one, task, 1, Key.of(text, b"content"))
            again = await known(two.submit(asked_for(task, 1), Key.of(text, b"content")))
            assert (again.replayed, again.status.id) == (True, job.id)
            found = await known(two.peek_key(text))
            assert found is not None
            assert found.id == job.id
            for other in ("double", "forever"):
                with pytest.raises(KeyReusedError):
                    await known(two.submit(asked_for(other, 2), Key.of(text, b"other")))
        await clear(one)


async def test_the_key_of_a_resubmission_is_known_wherever_the_failed_job_lies(store_url: str) -> None:
    async with node(f"{store_url}?partitions=16") as one:
        failed = [await finished(one, await submit(one, "broken", number, tags=("x",))) for number in range(6)]
        assert len({job.sequence % 16 for job in failed}) > 3
        keys = [Key.of("k", job.id) for job in failed]
        first = (await known(one.retry(failed[0], keys[0]))).status
        again = await known(one.retry(failed[0], keys[0]))
        assert (again.replayed, again.status.id) == (True, first.id)
        found = await known(one.peek_key("k"))
        assert found is not None
        assert found.id == first.id
        for job, key in zip(failed[1:], keys[1:], strict=True):
            with pytest.raises(KeyReusedError):
                await known(one.retry(job, key))
        done = await finished(one, first)
        assert (done.state, done.tags) == (State.FAILED, ("x",))
        await cancel(one, failed[5])
        with pytest.raises(PayloadGoneError):
            await known(one.retry(await peek(one, failed[5]), Key.of("other", b"")))


async def test_the_queue_of_a_cluster_is_bounded_and_takes_a_batch(cluster: Cluster) -> None:
    async with node(cluster.url, queue={"size": 1100}) as engine:
        await submit_batch(engine, *["forever"] * 1000)
        refused = 0
        for _ in range(300):
            try:
                await submit(engine, "forever")
            except QueueFullError:
                refused += 1
        waiting = (await counts(engine)).waiting
        assert refused > 150
        assert 1090 <= waiting <= 1110, waiting


async def test_the_bound_of_the_queue_is_that_of_all_partitions(store_url: str) -> None:
    """Each of them has room for all of the jobs, and a node counts its own ones at once."""
    async with node(f"{store_url}?partitions=16", queue={"size": 300}) as engine:
        accepted = 0
        for number in range(600):
            with suppress(QueueFullError):
                await submit(engine, "double", number, delay=60)
                accepted += 1
        assert accepted == 300
        assert (await counts(engine)).waiting == accepted
        with pytest.raises(QueueFullError):
            await submit_batch(engine, "double", "double")


async def test_submissions_at_the_same_time_do_not_pass_the_bound_together(store_url: str) -> None:
    """None of them is in the counts of the store when the others are checked."""
    async with node(f"{store_url}?partitions=16", queue={"size": 100}) as engine:
        given = await asyncio.gather(
            *(submit(engine, "double", number, delay=60) for number in range(300)), return_exceptions=True
        )
        assert sum(isinstance(one, QueueFullError) for one in given) == 200
        assert (await counts(engine)).waiting == 100


async def test_a_killed_primary_stops_only_its_jobs(cluster: Cluster) -> None:
    async with node(cluster.url) as engine:
        jobs = [await finished(engine, await submit(engine, "double", number)) for number in range(32)]
        fresh = [await submit(engine, "double", number, delay=60) for number in range(32)]
        cluster.servers[2].kill()
        await asyncio.sleep(2.5)
        # Jobs go to the others, and run there.
        for number in range(32):
            assert (await finished(engine, await submit(engine, "double", number))).state == State.SUCCEEDED
        away = 0
        for job in fresh:
            try:
                assert (await peek(engine, job)).state == State.SCHEDULED
            except EngineAwayError:
                away += 1
        assert 4 < away < 28
        assert [(await peek(engine, job)).state for job in jobs] == [State.SUCCEEDED] * 32
        assert engine.not_ready is None


async def test_jobs_of_a_task_that_no_live_node_knows_are_found_and_cancelled(url: str) -> None:
    async with started({"engine": url}, double, broken) as one:
        async with node(url) as two:
            waiting = await submit(two, "forever", 1, delay=60)
        assert isinstance(one, ValkeyEngine)
        # ``two`` has gone, and with it the task.
        await one.catalogue.look()
        assert "forever" not in one.catalogue.all
        wanted = JobFilter(task="forever")
        page = await known(one.find(wanted, 0, 50))
        assert [job.id for job in page.jobs] == [waiting.id]
        assert await known(one.count_meant(Action.CANCEL, wanted)) == {"forever": 1}
        await finished(one, (await known(one.order(Action.CANCEL, wanted))).status)
        assert (await peek(one, waiting)).state == State.CANCELLED
        with pytest.raises(UnknownTaskError):
            await known(one.find(JobFilter(task="never"), 0, 50))
