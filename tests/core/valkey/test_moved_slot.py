"""V13: slots are moved while jobs are submitted, run and read. None is lost, doubled or unknown for a moment."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count

import pytest
import redis
from headway.core.errors import EngineAwayError
from headway.core.interface import Engine
from headway.core.job import State
from headway.core.key import Key
from headway.core.link.address import Address
from headway.core.link.slots import slot_of
from headway.core.visit.checking import faults
from headway.core.visit.visit import opened

from tests.core.contract.client import asked_for
from tests.core.contract.conftest import started
from tests.core.engines import known
from tests.core.store.partition import Partition, ended, failed, job
from tests.valkey_servers import Cluster, StoreServer, cluster_of

# Servers that die, part and come back take their time.
pytestmark = pytest.mark.long

Move = Callable[[Cluster, int, StoreServer], None]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_of(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def by_keys(cluster: Cluster, slot: int, there: StoreServer) -> None:
    """Move a slot as ``valkey-cli --cluster reshard`` does: some keys at a time."""
    cluster.begin_move(slot, there)
    while cluster.move_keys(slot, there, 10):
        time.sleep(0.01)
    cluster.end_move(slot, there)


def at_once(cluster: Cluster, slot: int, there: StoreServer) -> None:
    """Move a slot as Valkey 9 does."""
    number = there.ask("CLUSTER", "MYID")
    cluster.owner(slot).ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", number)
    end = time.monotonic() + 10
    while cluster.owner(slot) is not there:
        assert time.monotonic() < end
        time.sleep(0.01)


async def accepted(engine: Engine, number: int) -> bytes:
    """Submit a job as a client does: again with the same key for as long as the store is away."""
    key = Key(f"k-{number}", b"digest")
    while True:
        try:
            return (await known(engine.submit(asked_for("note", number), key))).status.id
        except EngineAwayError:
            await asyncio.sleep(0.05)


async def seen(engine: Engine, job: bytes) -> State | None:
    """Return the state of a job, None while the store is away. A job that was accepted is never unknown."""
    try:
        status = await known(engine.peek(job))
    except EngineAwayError:
        return None
    assert status is not None
    return State(status.state)


def wrong(url: str) -> list[str]:
    """Return the faults of a store."""
    with opened(Address.of(url)) as store:
        return faults(store)


class Traffic:
    """Clients that submit and read until all slots were moved."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ids: dict[int, bytes] = {}
        self.moved = asyncio.Event()
        self._numbers = count()

    async def submit(self) -> None:
        while not self.moved.is_set():
            number = next(self._numbers)
            self.ids[number] = await accepted(self.engine, number)
            await asyncio.sleep(0.005)

    async def read(self) -> None:
        while not self.moved.is_set():
            for job_id in [*self.ids.values()][-20:]:
                await seen(self.engine, job_id)
            await asyncio.sleep(0.01)

    async def move(self, cluster: Cluster, move: Move) -> None:
        await asyncio.sleep(0.3)
        for partition in (0, 1, 0):
            slot = slot_of(b"hw:{%d}:c" % partition)
            await asyncio.to_thread(move, cluster, slot, another(cluster, slot))
        self.moved.set()

    async def all_succeed(self) -> None:
        async with asyncio.timeout(10):
            for job_id in self.ids.values():
                while await seen(self.engine, job_id) != State.SUCCEEDED:  # noqa: ASYNC110 — as a client polls
                    await asyncio.sleep(0.01)


def another(cluster: Cluster, slot: int) -> StoreServer:
    """Return a server that has not the slot."""
    owner = cluster.owner(slot)
    return next(server for server in cluster.servers if server is not owner)


@pytest.mark.parametrize("move", [by_keys, at_once])
async def test_no_job_is_lost_doubled_or_unknown(cluster: Cluster, move: Move) -> None:
    for server in cluster.servers:
        server.ask("FLUSHALL")
    ran: Counter[int] = Counter()

    async def note(payload: int) -> None:
        ran[payload] += 1

    url = f"{cluster.url}&partitions=2"
    async with started({"engine": url}, note, workers=4) as engine:
        traffic = Traffic(engine)
        await asyncio.gather(traffic.move(cluster, move), traffic.read(), *(traffic.submit() for _ in range(4)))
        assert len(set(traffic.ids.values())) == len(traffic.ids) > 30
        # Each key leads to the job that was accepted under it.
        for number, job_id in traffic.ids.items():
            assert await accepted(engine, number) == job_id
        await traffic.all_succeed()
        assert await asyncio.to_thread(wrong, url) == []
    assert ran == Counter(traffic.ids.keys())


def test_a_script_writes_nothing_into_a_slot_that_is_being_moved(cluster: Cluster) -> None:
    """A key that is not there may be on the other server, and a script that asks for it raises: in its middle."""
    for server in cluster.servers:
        server.ask("FLUSHALL")
    slot = slot_of(b"hw:{3}:c")
    source, there = cluster.owner(slot), another(cluster, slot)
    with source.client() as client:
        partition = Partition(client, 3, of=16)
        node = partition.node()
        node.accept(*(job() for _ in range(12)))
        claimed = node.claim(8)
        waiting = 12 * 16 + 3
        first, second, third, fourth, *_ = claimed
        calls: dict[str, Callable[[], object]] = {
            "submit": lambda: node.accept(job()),
            "claim": lambda: node.claim(1),
            "end": lambda: node.finish(ended(first, result=b"application/json\n1")),
            "fail": lambda: node.finish(failed(second)),
            "log": lambda: node.write(third.sequence, 1, b"text"),
            "progress": lambda: node.report(third.sequence, 1, 10, "message"),
            "cancel a running job": lambda: partition.cancel(fourth.sequence),
            "cancel a waiting job": lambda: partition.cancel(waiting),
            "revise": lambda: partition.revise(waiting - 16, delay_ms=60_000),
        }
        before = partition.dump()
        cluster.begin_move(slot, there)
        for name, call in calls.items():
            with pytest.raises(redis.ResponseError, match="non local key"):
                call()
            assert (name, partition.dump()) == (name, before)
        for server in (source, there):
            server.ask("CLUSTER", "SETSLOT", slot, "STABLE")
        for call in calls.values():
            call()
        assert partition.dump() != before
