"""Nodes that die, stop, block and lose the store: who owns a job, and who takes it up."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from headway.core.job import Reason, State
from headway.core.past_attempt import decode_attempt
from headway.core.store.record import LOG_FIELDS, read_log

from tests.core.nodes.nodes import KEYS, SHORT, client, soon

# Servers that die, part and come back take their time.
pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
# Kills of a node under load. `make crash-cluster` kills more often, with the times that nodes have.
KILLS = 5
# Seconds within which the jobs of a killed node are begun elsewhere.
RECLAIM_S = 15.0


class Noted(NamedTuple):
    """A line that a job wrote: it began, or ended."""

    what: str
    sequence: int
    attempt: int
    pid: int
    at: float


class Child:
    """A node in a process of its own."""

    def __init__(self, url: str, path: Path, **options: Any) -> None:
        words = [sys.executable, "-m", "tests.core.nodes.node_child", url, str(path), json.dumps(options)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        self.name = ""

    def wait(self) -> None:
        """Wait until it runs jobs."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline().decode().split()
        assert said[0] == "ready", said
        self.name = said[1]

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> float:
        """End it by SIGKILL, and return the time of that."""
        self.process.kill()
        self.process.wait()
        return time.monotonic()

    def stop(self) -> None:
        """Have it end in order."""
        with suppress(BrokenPipeError):
            self.process.communicate(timeout=15)


class Nodes:
    """Nodes in processes of their own, and what their jobs wrote."""

    def __init__(self, url: str, path: Path) -> None:
        self.url = url
        self.path = path
        self.all: list[Child] = []

    def begin(self, **options: Any) -> Child:
        """Start a node. ``wait`` for it before it is used."""
        self.all.append(Child(self.url, self.path, **options))
        return self.all[-1]

    def start(self, **options: Any) -> Child:
        """Start a node, and wait until it runs jobs."""
        child = self.begin(**options)
        child.wait()
        return child

    def noted(self, what: str, sequence: int = 0) -> list[Noted]:
        """Return the lines of one kind, of a job or of all."""
        lines = [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []
        found = [
            Noted(what, int(sequence), int(attempt), int(pid), float(at)) for what, sequence, attempt, pid, at in lines
        ]
        return [one for one in found if one.what == what and sequence in (0, one.sequence)]


@contextmanager
def many(url: str, folder: Path) -> Iterator[Nodes]:
    nodes = Nodes(url, folder / "noted")
    try:
        yield nodes
    finally:
        for child in nodes.all:
            child.process.kill()
            child.process.communicate()


@pytest.fixture
def nodes(store_url: str, tmp_path: Path) -> Iterator[Nodes]:
    with many(store_url, tmp_path) as found:
        yield found


async def begun(nodes: Nodes, sequence: int, times: int = 1) -> Noted:
    """Return the beginning of a job, once there is one."""
    await soon(lambda: len(nodes.noted("begin", sequence)) >= times)
    return nodes.noted("begin", sequence)[times - 1]


async def test_a_job_may_run_longer_than_all_times(nodes: Nodes, store_url: str) -> None:
    """It is begun once (V1), though a heartbeat lasts for a tenth of it."""
    nodes.start(**SHORT)
    nodes.start(**SHORT)
    async with client(store_url) as outside:
        [job] = await outside.submit("waits", 5.0)
        [facts] = await outside.over(job)
        assert (facts.state, facts.attempt, len(nodes.noted("begin"))) == (State.SUCCEEDED, 1, 1)


async def test_the_job_of_a_killed_node_is_begun_elsewhere_within_15_s(nodes: Nodes, store_url: str) -> None:
    """With the times that nodes have."""
    nodes.start()
    nodes.start()
    async with client(store_url) as outside:
        [job] = await outside.submit("waits", 1.0, retries=0)
        first = await begun(nodes, job)
        [owner] = [child for child in nodes.all if child.process.pid == first.pid]
        killed = owner.kill()
        second = await begun(nodes, job, 2)
        assert second.at - killed < RECLAIM_S
        assert (second.attempt, second.pid != first.pid) == (2, True)
        [facts] = await outside.over(job)
        assert facts.state == State.SUCCEEDED
        past = [decode_attempt(one) for one in await outside.link.call("LRANGE", KEYS.attempts(job), 0, -1)]
        assert [(one.number, one.reason, one.error) for one in past] == [
            (1, Reason.CRASHED, "was running when its node died")
        ]
        # Nothing is left of it.
        assert await outside.link.call("KEYS", f"*{owner.name}*") == []


async def test_a_node_that_is_killed_while_it_reaps_leaves_it_to_others(nodes: Nodes, store_url: str) -> None:
    """V3: there is no lock that it could leave behind."""
    dead, reaps = nodes.start(workers=100, **SHORT), nodes.start(workers=1, **SHORT)
    async with client(store_url) as outside:
        jobs = await outside.submit("waits", 0.2, count=400)
        await soon(lambda: len(nodes.noted("begin")) > 150)
        dead.kill()
        reaps.kill()
        nodes.start(workers=100, **SHORT)
        found = await outside.over(*jobs)
        assert {facts.state for facts in found} == {State.SUCCEEDED}
        assert await outside.link.call("SMEMBERS", KEYS.dead) == []


async def test_a_loop_that_is_blocked_is_not_dead(nodes: Nodes, store_url: str) -> None:
    """V4: the heartbeat has a thread of its own."""
    blocked = nodes.start(**SHORT)
    async with client(store_url) as outside:
        [waits] = await outside.submit("waits", 1.0)
        await begun(nodes, waits)
        [job] = await outside.submit("blocks", 3.0)
        await begun(nodes, job)
        nodes.start(**SHORT)
        found = await outside.over(waits, job)
        assert [(facts.state, facts.attempt) for facts in found] == [(State.SUCCEEDED, 1)] * 2
        assert {one.pid for one in nodes.noted("begin")} == {blocked.process.pid}


async def test_a_stopped_process_is_dead_and_does_no_harm_when_it_goes_on(nodes: Nodes, store_url: str) -> None:
    """V4: its end, progress and text do not count, and it runs jobs again under another name."""
    first = nodes.start(**SHORT)
    async with client(store_url) as outside:
        [job] = await outside.submit("reports", 2.0)
        await begun(nodes, job)
        second = nodes.start(**SHORT)
        await asyncio.sleep(0.3)
        first.signal(signal.SIGSTOP)
        again = await begun(nodes, job, 2)
        assert (again.pid, again.attempt) == (second.process.pid, 2)
        await asyncio.sleep(0.5)
        first.signal(signal.SIGCONT)
        [facts] = await outside.over(job)
        assert (facts.state, facts.attempt, facts.node.decode()) == (State.SUCCEEDED, 2, second.name)
        text = read_log(await outside.link.call("HMGET", KEYS.log(job), *LOG_FIELDS))
        _, _, after = (bytes(text.head) + bytes(text.tail)).partition(b"--- attempt 2 ---\n")
        assert after.split() == [word for percent in range(100) for word in (b"2", b"%d" % percent)]
        # The attempt of the one that was stopped was interrupted.
        assert [one.attempt for one in nodes.noted("end", job)] == [2]
        second.kill()
        [next_one] = await outside.submit("waits", 0)
        await outside.over(next_one)
        assert (await begun(nodes, next_one)).pid == first.process.pid


async def test_a_limited_task_never_runs_twice_at_once_and_is_never_stuck(nodes: Nodes, store_url: str) -> None:
    """V5: while nodes are killed, and one after the other takes the place."""
    for _ in range(2):
        nodes.begin(**SHORT)
    for child in nodes.all:
        child.wait()
    async with client(store_url) as outside:
        jobs = [job for _ in range(30) for job in await outside.submit("limited", 0.2)]
        for _ in range(4):
            await asyncio.sleep(random.uniform(0.5, 1.0))
            alive = [child for child in nodes.all if child.process.poll() is None]
            killed = random.choice(alive)
            killed.kill()
            nodes.start(**SHORT)
        found = await outside.over(*jobs, patience_s=30)
        assert {facts.state for facts in found} == {State.SUCCEEDED}
        # Of an attempt that was killed only the beginning is known.
        spans = {(one.sequence, one.attempt): one.at for one in nodes.noted("end")}
        assert {sequence for sequence, _ in spans} == set(jobs)
        ordered = sorted(nodes.noted("begin"), key=lambda one: one.at)
        for one, after in pairwise(ordered):
            ended = spans.get((one.sequence, one.attempt))
            assert ended is None or ended <= after.at
        assert await outside.link.call("HGETALL", KEYS.prefix + b"busy") == {}


def test_nodes_that_are_killed_under_load_lose_no_job(nodes: Nodes, store_url: str) -> None:
    """A job is begun twice only if it was in the hands of a node that was killed."""
    asyncio.run(kills(nodes, store_url))


async def kills(nodes: Nodes, store_url: str) -> None:
    for _ in range(2):
        nodes.begin(**SHORT)
    for child in nodes.all:
        child.wait()
    async with client(store_url) as outside:
        jobs: list[int] = []
        killed: dict[int, float] = {}
        ending = asyncio.Event()

        async def load() -> None:
            while not ending.is_set():
                jobs.extend(await outside.submit("waits", random.uniform(0, 0.1), count=10, retries=100))
                await asyncio.sleep(0.1)

        loading = asyncio.create_task(load())
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.2, 0.8))
            victim = random.choice([child for child in nodes.all if child.process.poll() is None])
            killed[victim.process.pid] = victim.kill()
            await asyncio.to_thread(nodes.start, **SHORT)
        ending.set()
        await loading
        found = await outside.over(*jobs, patience_s=30)
        assert {facts.state for facts in found} == {State.SUCCEEDED}
        begins: dict[int, list[Noted]] = {}
        for one in nodes.noted("begin"):
            begins.setdefault(one.sequence, []).append(one)
        assert begins.keys() == set(jobs)
        again = [pair for of_job in begins.values() for pair in pairwise(of_job)]
        late = [after.at - killed[before.pid] for before, after in again]
        assert max(late, default=0) < RECLAIM_S
        assert await outside.link.call("HGETALL", KEYS.prefix + b"busy") == {}
