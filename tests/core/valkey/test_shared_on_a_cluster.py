"""Events, orders, holds and finding of two nodes on three primaries."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from headway.core.events import EventFilter
from headway.core.hold import Switches
from headway.core.job import State
from headway.core.job_filter import JobFilter
from headway.core.order import Action

from tests.core.contract.client import finished, jobs_of, submit, text_of, until
from tests.core.contract.conftest import started
from tests.core.engines import broken, double, known
from tests.valkey_servers import cluster_of

# Servers that die, part and come back take their time.
pytestmark = pytest.mark.long

COUNT = 40


async def test_two_nodes_share_all_of_it(tmp_path: Path) -> None:
    with cluster_of(tmp_path) as cluster:
        own = {"engine": cluster.url}
        async with started(own, broken, double) as one, started(own, broken, double) as other:
            feed = await known(other.watch(EventFilter(states=frozenset({State.FAILED}))))
            told: list[bytes] = []
            feed.when_more(lambda: told.extend(event.job for event in feed.take().events))
            jobs = [await finished(one, await submit(one, "broken", n, tags=("x",))) for n in range(COUNT)]
            assert len({job.sequence % 16 for job in jobs}) > 8

            async def has_all() -> bool:
                return len(told) == COUNT

            await until(has_all)
            assert sorted(told) == sorted(job.id for job in jobs)
            found = await jobs_of(other, JobFilter(tag="x", error="VALUEERROR"), 7)
            assert [job.id for job in found] == [job.id for job in sorted(jobs, key=lambda job: -job.sequence)]
            await asyncio.sleep(0.005)
            await known(one.switch("broken", Switches(dispatch="hold", reason="why")))
            order = (await known(other.order(Action.RETRY, JobFilter(tag="x")))).status
            done = await finished(one, order)
            assert json.loads(await text_of(one, done)) == {"matched": COUNT, "done": COUNT, "skipped": 0}

            async def is_told() -> bool:
                task = await known(other.task("broken"))
                return task is not None and (task.hold.reason, task.unfinished) == ("why", COUNT)

            await until(is_told)
            await asyncio.sleep(0.2)
            assert await jobs_of(one, JobFilter(frozenset({State.RUNNING}))) == []
            order = (await known(one.order(Action.CANCEL, JobFilter(task="broken")))).status
            done = await finished(other, order)
            assert json.loads(await text_of(other, done)) == {"matched": COUNT, "done": COUNT, "skipped": 0}
