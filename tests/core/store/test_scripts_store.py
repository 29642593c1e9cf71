"""The scripts on stores of other kinds: users with few rights, clusters, many jobs; and finding and trimming."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import pytest
import redis
from headway.core.hold import TaskHold
from headway.core.interface import LISTED_MOST
from headway.core.job import Reason, State
from headway.core.job_filter import JobFilter
from headway.core.key import Key
from headway.core.link.script import Script
from headway.core.nodes.outbox import STEP_MOST
from headway.core.retention import Retention
from headway.core.store import changes, scripts
from headway.core.store.changes import Trimmed
from headway.core.store.groups import Accepted, Replayed, SubmitBounds, SubmitGroup
from headway.core.store.steps import Claimed, Finish, FinishPutBack, FinishRetry, FinishSnooze, FreePlaces
from headway.core.valkey.submissions import JOBS_MOST

from tests.core.store.audit import faults
from tests.core.store.partition import KEPT, MARKER, Node, Partition, alone, ended, failed, job, numbers
from tests.slowness import slowness
from tests.valkey_servers import StoreServer, cluster_of, serving


def all_that_there_is(partition: Partition) -> None:
    """Run each script at least once."""
    node = partition.node()
    partition.client.set(partition.keys.watched, "100 1")
    node.submit(
        SubmitGroup([job(tags=("a",)), job(delay_ms=1, deadline_ms=60_000)], "batch", Key.of("k", b"")),
        SubmitGroup([job("headway.retry")], "order"),
    )
    time.sleep(0.002)
    claims = node.claim()
    assert len(claims) == 3
    first = claims[0]
    assert node.report(first.sequence, 1, 50, "half")
    assert node.write(first.sequence, 1, b"text")
    node.step(ended(first, result=b"text/plain\nx"), failed(claims[1], past=b"x"))
    number = node.accept(job())[0]
    partition.revise(number, priority=9)
    partition.run(scripts.SWITCH, changes.switch_arguments(MARKER, "sum", before=b"", after=b'{"intake":"closed"}'))
    partition.run(scripts.NOTE, changes.note_arguments(MARKER, [b"one", b"two"], kept=1))
    partition.node("two").claim()
    partition.cancel(number)
    node.die()
    assert partition.reap(node).how == "done"
    assert partition.batch(claims[0].sequence, 1).states == [5]
    assert partition.counts().jobs[State.SUCCEEDED] == 1
    found = changes.find_arguments(MARKER, JobFilter(), 0, 10, partitions=partition.of)
    assert len(changes.read_found(partition.run(scripts.FIND, found))[1]) == 4
    partition.run(scripts.TRIM, changes.trim_arguments(MARKER, kept=KEPT, keys=0, partitions=partition.of))
    assert faults(partition) == []


def test_entries_of_the_audit_log_are_numbered_once_and_the_last_ones_kept(partition: Partition) -> None:
    def entries() -> list[tuple[bytes, float]]:
        return [*partition.client.zrange(partition.keys.audit, 0, -1, withscores=True)]

    for told in ([b"a", b"b"], [b"b", b"c"], [b"c"]):
        # A call that is sent again.
        partition.run(scripts.NOTE, changes.note_arguments(MARKER, told, kept=10))
    assert entries() == [(b"a", 1), (b"b", 2), (b"c", 3)]
    partition.run(scripts.NOTE, changes.note_arguments(MARKER, [b"d", b"e"], kept=2))
    assert entries() == [(b"d", 4), (b"e", 5)]


def test_a_user_of_the_keys_and_channels_alone_can_run_all(own_store: StoreServer, client: redis.Redis) -> None:
    """V13."""
    client.execute_command(
        "ACL", "SETUSER", "headway", "on", ">secret", "~hw:*", "&hw:*", "+@all", "-@dangerous", "-@admin"
    )
    with redis.Redis(unix_socket_path=str(own_store.socket), username="headway", password="secret") as limited:
        with pytest.raises(redis.exceptions.NoPermissionError):
            limited.set("other", 1)
        for script in vars(scripts).values():
            if isinstance(script, Script):
                limited.script_load(script.text)

        class Limited(Partition):
            def run(self, script: Script, arguments: list[object]) -> object:  # type: ignore[override]
                return limited.evalsha(script.digest.decode(), 1, self.keys.counts, *arguments)

        all_that_there_is(Limited(client, 5, of=16))


def test_the_page_of_the_data_model_has_each_key(partition: Partition) -> None:
    page = (Path(__file__).parents[3] / "docs/adr/0026-the-data-model-on-valkey.md").read_text()
    named = {
        name.split(":")[0]
        for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\S+)`", row)
    }
    all_that_there_is(partition)
    there = {key.removeprefix(partition.keys.prefix).decode().split(":")[0] for key in partition.client.scan_iter()}
    assert there <= named
    assert len(there) > 20
    fields = {name.decode() for key in partition.client.scan_iter("*:j:*") for name in partition.client.hkeys(key)}
    told = page.partition("A job has these fields")[2].partition("\n\n")[0]
    assert [field for field in sorted(fields) if f"`{field}`" not in told] == []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.RedisCluster]:
    with cluster_of(tmp_path_factory.mktemp("cluster")) as made:
        host, _, port = made.url.partition("//")[2].partition(",")[0].partition(":")
        with redis.RedisCluster(host=host, port=int(port)) as client:
            yield client


@pytest.mark.parametrize("number", range(0, 16, 5))
@pytest.mark.long
def test_all_keys_of_a_partition_are_in_one_slot_of_a_cluster(cluster: redis.RedisCluster, number: int) -> None:
    """V13: no script meets a key of another slot, which the store would refuse."""
    partition = Partition(cluster, number, of=16)
    slot = cluster.keyslot(partition.keys.counts)
    host = cluster.get_node_from_key(partition.keys.counts)
    with redis.Redis(host=host.host, port=host.port) as primary:
        all_that_there_is(Partition(primary, number, of=16))
        there = [key for key in primary.scan_iter() if key.startswith(partition.keys.prefix)]
        assert len(there) > 10
        assert {cluster.keyslot(key) for key in there} == {slot}


def find(partition: Partition, wanted: JobFilter, before: int = 0, limit: int = 1000, looks: int = 1000) -> list[int]:
    """Return the numbers of all jobs that fit, by as many calls as are needed."""
    found: list[int] = []
    while True:
        arguments = changes.find_arguments(MARKER, wanted, before, limit, partitions=partition.of, looks=looks)
        before, some = changes.read_found(partition.run(scripts.FIND, arguments))
        found += [sequence for sequence, _ in some]
        if not before:
            return found


@pytest.mark.parametrize("of", [1, 16])
@pytest.mark.parametrize("looks", [7, 1000])
def test_jobs_are_found_newest_first_by_each_condition(client: redis.Redis, of: int, looks: int) -> None:
    partition = Partition(client, 3 % of, of)
    node = partition.node()
    first = node.accept(
        *[job("sum" if number % 3 else "noop", tags=("even",) if number % 2 == 0 else ()) for number in range(600)]
    )
    assert len(first) == 600
    claims = node.claim()
    node.finish(*map(ended, claims[:10]), *map(failed, claims[10:14]))
    cancelled = first[50:60]
    partition.cancel(*cancelled)
    done, broken = numbers(claims[:10]), numbers(claims[10:14])
    kinds = {number: "sum" if index % 3 else "noop" for index, number in enumerate(first)}

    def newest(which: list[int]) -> list[int]:
        return sorted(which, reverse=True)

    def look(wanted: JobFilter, **options: int) -> list[int]:
        return find(partition, wanted, looks=looks, **options)

    assert look(JobFilter()) == newest(first)
    assert look(JobFilter(), limit=3) == newest(first)
    assert look(JobFilter(), before=first[100]) == newest(first[:100])
    assert look(JobFilter(states=frozenset({State.SUCCEEDED}))) == newest(done)
    assert look(JobFilter(states=frozenset({State.FAILED, State.CANCELLED}))) == newest(broken + cancelled)
    assert look(JobFilter(reason=Reason.ERROR)) == newest(broken)
    assert look(JobFilter(reason=Reason.TIMEOUT)) == []
    assert look(JobFilter(task="noop")) == newest([number for number in first if kinds[number] == "noop"])
    assert look(JobFilter(tag="even")) == newest(first[::2])
    assert look(JobFilter(tag="even"), before=first[100], limit=9) == newest(first[:100:2])
    assert look(JobFilter(tag="odd")) == []
    facts = partition.facts(done[0])
    assert facts is not None
    moment = facts.ended_ms / 1000
    assert set(look(JobFilter(ended_after=moment))) >= {done[0]}
    assert done[0] not in look(JobFilter(ended_before=moment))
    assert look(JobFilter(submitted_before=facts.submitted_ms / 1000)) == []
    assert look(JobFilter(submitted_after=facts.submitted_ms / 1000)) == newest(first)


def trim(partition: Partition, kept: Retention = KEPT, keys: int = 1000, cursor: int = -1) -> Trimmed:
    arguments = changes.trim_arguments(MARKER, kept=kept, keys=keys, partitions=partition.of, cursor=cursor)
    return changes.read_trimmed(partition.run(scripts.TRIM, arguments))


def test_a_bound_that_is_lowered_is_reached_in_bounded_calls(partition: Partition) -> None:
    node = partition.node()
    node.accept(*[job()] * 400)
    ends = []
    while claims := node.claim():
        ends += [ended(one) for one in claims]
    node.finish(*ends)
    rounds = []
    while (one := trim(partition, Retention.same(5, 60.0))).jobs:
        rounds.append((one.jobs, one.more))
    assert rounds == [(100, True), (100, True), (100, True), (95, False)]
    kept = [number for number in range(1, 401) if partition.state(number) == State.SUCCEEDED]
    assert kept == list(range(396, 401))


def test_a_bound_on_keys_that_is_lowered_is_reached_the_oldest_first(partition: Partition) -> None:
    node, keys = partition.node(), [Key.of(f"key {number}", b"") for number in range(5)]
    node.submit(*(alone(key=key) for key in keys))
    trim(partition, keys=2)
    trim(partition, keys=2)
    answers = node.submit(*(alone(key=key) for key in keys)).answers
    assert answers == [Accepted(6), Accepted(7), Accepted(8), Replayed(4, 0), Replayed(5, 0)]


def test_a_key_that_came_again_stays_when_the_bound_is_lowered(partition: Partition) -> None:
    node, key = partition.node(), Key.of("again", b"")
    node.submit(alone(key=key))
    partition.client.delete(partition.keys.key("again"))
    node.submit(alone(key=key))
    trim(partition, keys=1)
    assert node.submit(alone(key=key)).answers == [Replayed(2, 0)]


def test_events_are_written_for_so_long_after_a_word_of_a_node(partition: Partition) -> None:
    node = partition.node()
    partition.run(scripts.WATCH, [MARKER, 100, 100])
    node.accept(job())
    time.sleep(0.11)
    node.accept(job())
    assert partition.client.xlen(partition.keys.events) == 1


def test_only_holds_that_are_over_leave(partition: Partition) -> None:
    now = time.time()
    holds = {
        "over": TaskHold("hold", until=now - 1),
        "later": TaskHold("hold", until=now + 60),
        "open": TaskHold("hold"),
    }
    for task, hold in holds.items():
        partition.client.hset(partition.keys.hold, task, changes.encode_hold(hold))
    trim(partition)
    assert set(partition.client.hkeys(partition.keys.hold)) == {b"later", b"open"}


@pytest.mark.long
def test_as_many_blocks_of_numbers_leave_as_come(partition: Partition) -> None:
    """V11: also behind a job that waits for a month."""
    node = partition.node()
    node.kept = Retention.same(100, 60.0)
    node.accept(job(delay_ms=2_592_000_000))
    for _ in range(30):
        node.submit(SubmitGroup([job()] * 1000, "batch"))
        while claims := node.claim(200):
            node.finish(*map(ended, claims))
    blocks = partition.keys.prefix + b"blocks"
    assert partition.client.zcard(blocks) == 118
    rounds, cursor, more = 0, -1, True
    while more:
        trimmed = trim(partition, node.kept, cursor=cursor)
        rounds, cursor, more = rounds + 1, trimmed.cursor, trimmed.more
    # Four empty ones in each call, of which a round of a node has twenty.
    assert rounds < 40
    # Those of the first job, of the last hundred, and of the last number.
    assert partition.client.zcard(blocks) <= 4
    assert len(find(partition, JobFilter())) == 101
    assert faults(partition) == []


def test_jobs_that_come_after_a_trim_are_found(partition: Partition) -> None:
    """The block of the last number stays, though no job of it is left: the next jobs are in it."""
    node = partition.node()
    node.accept(job())
    partition.cancel(1, kept=Retention.same(1000, 0.001))
    time.sleep(0.01)
    assert partition.state(1) == State.EXPIRED
    trim(partition)
    assert node.accept(job()) == [2]
    assert find(partition, JobFilter()) == [2]


@pytest.mark.parametrize("of", [pytest.param(1, marks=pytest.mark.long), 16])
def test_nothing_is_left_of_jobs_and_keys_that_are_over(client: redis.Redis, of: int) -> None:
    """V11, V20: what is kept of 10,000 jobs that are over is nothing."""
    partition = Partition(client, 0, of)
    node = partition.node()
    node.kept = Retention.same(10**6, 0.001)
    before = set(client.keys())
    for round_number in range(100):
        groups = [alone(key=Key.of(f"{round_number}.{number}", b""), tags=(f"tag {number}",)) for number in range(50)]
        node.submit(*groups, SubmitGroup([job()] * 50, "batch"))
        while claims := node.claim():
            node.finish(*map(ended, claims))
    client.delete(*client.keys(partition.keys.prefix + b"k:*"))
    time.sleep(0.01)
    cursor = -1
    for _ in range(150):
        cursor = trim(partition, cursor=cursor).cursor
    left = {key for key in client.scan_iter() if client.pttl(key) < 0} - before
    names = {key.decode().removeprefix(partition.keys.prefix.decode()) for key in left}
    assert names <= {"n", "c", "calls", "steps", "blocks", "bs", "idle"}
    assert client.zcard(partition.keys.prefix + b"blocks") <= 1
    assert client.llen(partition.keys.prefix + b"bs") == 100
    assert client.hlen(partition.keys.counts) < 20
    assert faults(partition) == []


@pytest.mark.long
def test_what_happens_at_random_leaves_all_counts_right(client: redis.Redis) -> None:
    for seed in range(12):
        client.flushall()
        walk(Partition(client), random.Random(seed))


def walk(partition: Partition, chance: random.Random) -> None:
    """Do this and that, and compare the counts with the jobs after each."""
    nodes = {name: partition.node(name, mail=2) for name in ("a", "b", "c")}
    hands: dict[str, list[Claimed]] = {name: [] for name in nodes}
    births = 0
    partition.node("keeper")
    for _ in range(120):
        name = chance.choice(list(nodes))
        node = nodes[name]
        last = int(partition.client.get(partition.keys.prefix + b"n") or 0)
        some = [chance.randint(1, last + 1) for _ in range(chance.randint(1, 4))]
        what = chance.randrange(9)
        if what < 2:
            jobs = [
                job(
                    chance.choice(["noop", "sum", "mail", "unknown"]),
                    priority=chance.randint(0, 9),
                    delay_ms=chance.choice([0, 0, 0, 1, 60_000]),
                    deadline_ms=chance.choice([None, None, 1, 60_000]),
                    tags=chance.choice([(), (), ("a",), ("a", "b")]),
                    keep_ms=chance.choice([None, None, 1]),
                )
                for _ in range(chance.randint(1, 6))
            ]
            node.submit(SubmitGroup(jobs, "batch") if chance.random() < 0.5 else SubmitGroup(jobs[:1]))
        elif what < 6:
            chance.shuffle(hands[name])
            cut = chance.randint(0, len(hands[name]))
            ends, hands[name] = hands[name][:cut], hands[name][cut:]
            finishes: list[Finish] = [
                chance.choice(
                    [
                        ended(one),
                        failed(one, past=b"x"),
                        FinishRetry(sequence=one.sequence, attempt=one.attempt, task=one.task, delay_ms=1, past=b"y"),
                        FinishSnooze(sequence=one.sequence, attempt=one.attempt, task=one.task, delay_ms=1),
                        FinishPutBack(sequence=one.sequence, attempt=one.attempt, task=one.task),
                    ]
                )
                for one in ends
            ]
            room = FreePlaces(chance.randint(0, 5), 9, 9, 9)
            hands[name] += node.step(*finishes, room=room).claimed
            if chance.random() < 0.2:
                node.step(*finishes, room=room, again=True)
        elif what == 6:
            partition.cancel(*some, mode=chance.choice(list(changes.CancelMode)))
        elif what == 7:
            partition.revise(some[0], chance.choice([None, 3, 7]), chance.choice([None, 0, 1, 60_000]))
        else:
            node.die()
            partition.reap(node)
            births += 1
            del nodes[name], hands[name]
            name = f"{name[0]}{births}"
            nodes[name], hands[name] = partition.node(name, mail=2), []
        # Jobs that expire take their facts with them, whatever the counts are.
        assert faults(partition) == []


Reply = TypeVar("Reply")
# µs that a script may hold the store, on the machine of ADR 26. There a batch of a thousand jobs took
# BATCH_US, so it tells how slow the store is here. It is one script, as long as its client makes it.
HELD_MOST_US, BATCH_US = 5000, 4900


class Timed:
    """A partition beside a million kept jobs, and the µs that each of its scripts has held the store."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.partition = Partition(client)
        self.node = self._node("one")
        # By the name of what was done.
        self.held: dict[str, list[int]] = {}
        client.config_set("slowlog-log-slower-than", "0")

    def _node(self, name: str) -> Node:
        node = self.partition.node(name)
        node.kept = Retention.same(10**6, 3600.0)
        node.bounds = SubmitBounds(size=10**7, payload_bytes=1 << 40, key_ms=60_000, keys=1000)
        return node

    def keep(self, jobs: int) -> None:
        """Keep so many failed jobs."""
        keys = self.partition.keys
        with self.client.pipeline(transaction=False) as pipe:
            for number in range(1, jobs + 1):
                pipe.hset(keys.job(number), mapping={"s": 6, "k": "noop", "i": 5, "t": 1, "U": 9, "e": 2})
                pipe.rpush(keys.ended(6), number)
                if number % 20_000 == 0:
                    pipe.execute()
        self.client.set(keys.prefix + b"n", jobs)
        self.client.zadd(keys.prefix + b"blocks", {str(block): block for block in range(jobs // 256 + 1)})

    def call(self, name: str, do: Callable[[], Reply]) -> Reply:
        """Do something by one script, and note how long that held the store."""
        self.client.slowlog_reset()
        reply = do()
        entry = max(self.client.slowlog_get(100), key=itemgetter("duration"))
        self.held.setdefault(name, []).append(entry["duration"])
        return reply

    def all_at_their_most(self, attempt: int) -> None:
        """Call each script with as much as a node calls it with."""
        node, partition, most = self.node, self.partition, JOBS_MOST
        plain, room = [alone()] * most, FreePlaces(places=1000, loop=1000, thread=1000, process=1000, orders=16)
        self.call("submit", lambda: node.submit(*plain))
        self.call("submit with tags", lambda: node.submit(*[alone(tags=("customer:1", f"o:{attempt}"))] * most))
        keyed = [alone(key=Key(f"{attempt}-{number}", b"d" * 16)) for number in range(most)]
        self.call("submit with keys", lambda: node.submit(*keyed))
        self.call("submit a batch", lambda: node.submit(SubmitGroup([job()] * 1000)))
        claims = self.call("claim", lambda: node.step(room=room)).claimed
        assert len(claims) == STEP_MOST
        claims = self.call("fail and claim", lambda: node.step(*map(failed, claims), room=room)).claimed
        self.call("end", lambda: node.finish(*map(ended, claims)))
        while claims := node.step(room=room).claimed:
            node.finish(*map(ended, claims))
        node.submit(*[alone(delay_ms=1, deadline_ms=10)] * most)
        time.sleep(0.02)
        self.call("what is due", lambda: node.step(room=room))
        waiting = node.accept(*[job()] * changes.CANCELLED_MOST)
        self.call("cancel", lambda: partition.cancel(*waiting))
        self.call("forget", lambda: partition.cancel(*range(1000 * attempt + 1, 1000 * attempt + 101)))
        dying = self._node(f"dying{attempt}")
        node.submit(*plain)
        while len(dying.in_hand()) < changes.REAPED_MOST:
            dying.step(room=room)
        dying.die()
        self.call("reap", lambda: partition.reap(dying))
        wanted = [JobFilter(), JobFilter(states=frozenset({State.FAILED})), JobFilter(task="sum")]
        for one in wanted:
            words = changes.find_arguments(MARKER, one, 0, LISTED_MOST)
            self.call("find", partial(partition.run, scripts.FIND, words))
        self.call("counts", partition.counts)
        self.call("trim", lambda: trim(partition, Retention.same(10**6 - 10_000, 3600.0)))
        self.call("read a batch", lambda: partition.batch(1, 1000))


@pytest.mark.long
def test_no_script_holds_the_store_for_long_beside_a_million_kept_jobs(tmp_path: Path) -> None:
    """V11. The shortest of some calls: others run on the machine as well, and the clock goes on for them."""
    with serving(tmp_path) as server, server.client() as client:
        timed = Timed(client)
        timed.keep(1_000_000)
        for attempt in range(8):
            timed.all_at_their_most(attempt)
    batch_us = min(timed.held.pop("submit a batch"))
    longest_us = {name: min(held) for name, held in timed.held.items()}
    most_us = HELD_MOST_US * max(batch_us / BATCH_US, 1.0)
    assert {name: us for name, us in longest_us.items() if us > most_us} == {}
    assert batch_us < 2 * BATCH_US * slowness()
