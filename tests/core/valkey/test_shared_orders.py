"""Orders on a store: each job once, over lost connections and lost replies, in many partitions, and by one node."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest
from headway.core.hold import Switches
from headway.core.interface import Engine
from headway.core.job import State
from headway.core.job_filter import JobFilter
from headway.core.link.reply_error import ReplyError
from headway.core.order import Action
from headway.core.retention import DEFAULT
from headway.core.status import Status
from headway.core.store.changes import CancelMode, cancel_arguments
from headway.core.store.groups import OrderStep
from headway.core.store.scripts import CANCEL

from tests.core.contract.client import asked_for, batch_finished, finished, jobs_of, submit, text_of
from tests.core.contract.conftest import started
from tests.core.engines import broken, double, known
from tests.core.valkey.stores import NODE, reached
from tests.valkey_servers import StoreServer

FAILED = frozenset({State.FAILED})


async def failed_jobs(engine: Engine, count: int) -> None:
    """Have jobs that failed, each with a tag of its own."""
    batch = await known(engine.submit_batch([asked_for("broken", n, tags=(f"n{n}", "all")) for n in range(count)]))
    await batch_finished(engine, batch.status)


async def result(engine: Engine, job: Status) -> dict[str, int]:
    done = await finished(engine, job)
    assert done.state == State.SUCCEEDED, await text_of(engine, done)
    found: dict[str, int] = json.loads(await text_of(engine, done))
    return found


@pytest.mark.parametrize("partitions", [1, 3])
async def test_over_connections_that_are_lost_each_job_is_retried_once(
    store_url: str, store: StoreServer, partitions: int
) -> None:
    count = 300
    async with started({"engine": f"{store_url}?partitions={partitions}"}, broken, double, workers=4) as engine:
        await failed_jobs(engine, count)
        await known(engine.switch("broken", Switches(dispatch="hold")))
        order = (await known(engine.order(Action.RETRY, JobFilter(FAILED, tag="all")))).status
        killed = 0
        for _ in range(8):
            await asyncio.sleep(0.004)
            killed += int(store.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
        assert killed
        assert await result(engine, order) == {"matched": count, "done": count, "skipped": 0}
        again = await jobs_of(engine, JobFilter(frozenset({State.QUEUED}), tag="all"), 250)
        assert Counter(job.tags[0] for job in again) == Counter(f"n{n}" for n in range(count))


@pytest.mark.parametrize("partitions", [1, 3])
async def test_orders_of_all_kinds_reach_all_partitions(store_url: str, partitions: int) -> None:
    async with started({"engine": f"{store_url}?partitions={partitions}"}, broken, double, workers=4) as engine:
        jobs = [await submit(engine, "double", n, delay=1000, tags=("x",)) for n in range(20)]
        done = [await finished(engine, await submit(engine, "double", n, tags=("x",))) for n in range(10)]
        assert len({job.sequence % partitions for job in jobs}) == partitions
        assert await known(engine.count_meant(Action.CANCEL, JobFilter(tag="x"))) == {"double": 20}
        await asyncio.sleep(0.005)
        order = (await known(engine.order(Action.CANCEL, JobFilter(tag="x")))).status
        assert await result(engine, order) == {"matched": 20, "done": 20, "skipped": 0}
        order = (await known(engine.order(Action.DELETE, JobFilter(tag="x")))).status
        assert await result(engine, order) == {"matched": 10, "done": 10, "skipped": 0}
        assert [await known(engine.result(job)) for job in done] == [None] * 10


async def test_a_step_that_is_sent_again_does_nothing(store_url: str) -> None:
    async with reached(store_url) as one:
        jobs = await one.submit(4, delay_ms=100_000)
        (order,) = await one.submit(1, task="headway.cancel")
        keys = one.store.keys[0]
        await one.store.call(keys, "HSET", keys.run(NODE.decode()), order, 1)

        async def step(some: list[int], after: int, attempt: int = 1) -> list[bytes]:
            words = cancel_arguments(
                b"", CancelMode.CANCEL, some, kept=DEFAULT, order=OrderStep(order, attempt, NODE, after)
            )
            answers: list[bytes] = (await one.store.run(keys, CANCEL, *words[1:]))[1:]
            return answers

        assert await step(jobs[:2], 0) == [b"dropped", b"dropped"]
        # Its reply was lost.
        with pytest.raises(ReplyError, match="OVERTAKEN"):
            await step(jobs[:2], 0)
        assert await step(jobs[2:3], jobs[1]) == [b"dropped"]
        # A node that was declared dead, and goes on.
        await one.store.call(keys, "HSET", keys.run(NODE.decode()), order, 2)
        with pytest.raises(ReplyError, match="FENCED"):
            await step(jobs[3:], jobs[2])
        kept = await one.store.call(keys, "HMGET", keys.order(order), "done", "skipped", "upto")
        assert [int(value) for value in kept] == [3, 0, jobs[2]]


async def test_an_order_waits_for_a_store_that_is_away(store_url: str, store: StoreServer) -> None:
    """A pause of the store is no end of it: nothing is given up, and nothing is done twice."""
    async with started({"engine": store_url}, broken, double, workers=4) as engine:
        await failed_jobs(engine, 100)
        store.ask("CLIENT", "PAUSE", 300, "WRITE")
        order = (await known(engine.order(Action.DELETE, JobFilter(FAILED, tag="all")))).status
        assert await result(engine, order) == {"matched": 100, "done": 100, "skipped": 0}
