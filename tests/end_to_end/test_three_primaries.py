"""A cluster of three primaries: jobs lie over all slots, and a killed primary stops its own alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.process import AS_SHIPPED, Server, launch, wait_until
from tests.protocol.wire import Answer, post, request, submission
from tests.valkey_servers import Cluster, StoreServer, cluster_of

pytestmark = pytest.mark.long

PARTITIONS = 16


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three primaries, whose files are synced before each reply."""
    with cluster_of(tmp_path / "store", appendonly="yes", appendfsync="always") as cluster:
        yield cluster


@pytest.fixture
def node(tmp_path: Path, cluster: Cluster) -> Iterator[Server]:
    """A node on them."""
    with launch(tmp_path, {"engine": cluster.url, "journal__path": AS_SHIPPED, "drain_timeout": 1}) as server:
        yield server


def partition_of(path: str) -> int:
    """Return the partition that an id names: docs/cluster.md."""
    return int(path.removeprefix("/jobs/")[8:20], 16) % PARTITIONS


def submitted(node: Server, count: int, *lines: str) -> list[Answer]:
    """Submit jobs on one connection; in ``lines`` % is the number of the job."""
    with node.wire() as wire:
        return [
            wire.ask(post(submission("echo", number), *(line.replace("%", str(number)) for line in lines)))
            for number in range(count)
        ]


def heads(node: Server, paths: list[str]) -> dict[str, Answer]:
    """Ask for each."""
    with node.wire() as wire:
        return {path: wire.ask(request("HEAD", path)) for path in paths}


@pytest.mark.parametrize("lines", [[], ["Idempotency-Key: k-%"]], ids=["alone", "by key"])
def test_jobs_lie_over_all_slots(cluster: Cluster, node: Server, lines: list[str]) -> None:
    paths = [answer["location"] for answer in submitted(node, 1600, *lines)]
    count = Counter(map(partition_of, paths))
    assert len(count) == PARTITIONS
    assert max(count.values()) <= 2 * min(count.values())
    owners = {partition: owner_of(cluster, partition).port for partition in count}
    assert len(set(owners.values())) == 3
    wait_until(lambda: node.stats()["jobs"]["succeeded"], lambda ended: ended == 1600)


def owner_of(cluster: Cluster, partition: int) -> StoreServer:
    """Return the primary that has a partition."""
    slot = cluster.servers[0].ask("CLUSTER", "KEYSLOT", f"hw:{{{partition}}}:c")
    return cluster.owner(int(slot))


def test_a_killed_primary_stops_its_own_slots_alone(cluster: Cluster, node: Server) -> None:
    before = [answer["location"] for answer in submitted(node, 160)]
    wait_until(lambda: node.stats()["jobs"]["succeeded"], lambda ended: ended == 160)
    dead = owner_of(cluster, 0)
    stopped = {partition for partition in range(PARTITIONS) if owner_of(cluster, partition) is dead}
    assert 1 < len(stopped) < PARTITIONS - 1
    waiting = [answer["location"] for answer in submitted_for_later(node, 64)]
    dead.kill()

    # What it has still to be asked for cannot be told, and all else is as it was.
    for path, answer in heads(node, waiting).items():
        assert answer.status == (503 if partition_of(path) in stopped else 202), path
    for path, answer in heads(node, before).items():
        assert answer.status in ((200, 503) if partition_of(path) in stopped else (200,)), path

    # New jobs go where there is room for them.
    answers = submitted(node, 160)
    taken = [answer["location"] for answer in answers if answer.status == 202]
    assert {answer.status for answer in answers} <= {202, 503}
    assert len(taken) >= 160 * (PARTITIONS - len(stopped)) // PARTITIONS
    assert {partition_of(path) for path in taken}.isdisjoint(stopped)
    for path in taken:
        node.wait_for(path, "succeeded")

    dead.start()
    wait_until(lambda: {said.status for said in heads(node, before).values()}, lambda codes: codes == {200})
    after = wait_until(lambda: submitted(node, 160), lambda said: {answer.status for answer in said} == {202})
    for answer in after:
        node.wait_for(answer["location"], "succeeded")
    assert {said["job-state"] for said in heads(node, waiting).values()} == {"scheduled"}


def submitted_for_later(node: Server, count: int) -> list[Answer]:
    """Submit jobs that wait for an hour; nobody has asked for them yet."""
    with node.wire() as wire:
        return [wire.ask(post(submission("echo", number, delay=3600))) for number in range(count)]
