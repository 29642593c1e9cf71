"""The script ``submit``: accepted jobs, refusals, keys, and calls that are sent again."""

from __future__ import annotations

import itertools
import time

import pytest
import redis
from headway.core.hold import TaskHold
from headway.core.job import State
from headway.core.key import Key
from headway.core.store import changes, groups, scripts
from headway.core.store.groups import (
    Accepted,
    Closed,
    NewJob,
    NoBytes,
    NoOrders,
    NoPlaces,
    NotFailed,
    OrderStep,
    PayloadGone,
    Replayed,
    Reused,
    SubmitBounds,
    SubmitGroup,
)
from headway.core.valkey.shared_orders import KEPT_MS

from tests.core.store.audit import faults
from tests.core.store.partition import MARKER, Partition, alone, ended, failed, job, numbers
from tests.valkey_servers import StoreServer

# The first moment of 2026: numbers by the clock count from there.
EPOCH_S = 1_767_225_600
HERE, THERE = Key.of("k", b"one"), Key.of("k", b"two")


def test_numbers_count_up_over_groups(partition: Partition) -> None:
    node = partition.node()
    batch = SubmitGroup([job(), job("sum"), job()], "batch")
    assert node.submit(alone(), batch, alone()).answers == [Accepted(1), Accepted(2), Accepted(5)]
    assert node.submit(alone()).answers == [Accepted(6)]
    assert partition.counts().waiting == 6
    assert faults(partition) == []


def test_partitions_share_the_numbers(client: redis.Redis) -> None:
    third, last = Partition(client, 3, of=16), Partition(client, 15, of=16)
    assert third.node().submit(alone(), alone()).answers == [Accepted(19), Accepted(35)]
    assert last.node().submit(SubmitGroup([job(), job()], "batch")).answers == [Accepted(31)]
    assert last.batch(31, 2).states == [2, 2]


def test_all_facts_are_kept(partition: Partition) -> None:
    node = partition.node()
    reply = node.submit(
        SubmitGroup(
            [job("sum", b"[1]", priority=7, delay_ms=60_000, deadline_ms=90_000, keep_ms=5, tags=("a", "ü")), job()],
            "batch",
        )
    )
    facts = partition.facts(1)
    assert facts is not None
    assert (facts.state, facts.task, facts.priority, facts.tags, facts.batch) == (1, "sum", 7, ("a", "ü"), (1, 2))
    times = facts.submitted_ms, facts.due_ms, facts.deadline_ms
    assert times == (reply.now_ms, reply.now_ms + 60_000, reply.now_ms + 90_000)
    assert partition.state(2) == State.QUEUED
    assert faults(partition) == []


def test_a_call_that_is_sent_again_is_answered_and_not_done_again(partition: Partition) -> None:
    node = partition.node()
    first = node.submit(alone(), alone(key=HERE))
    before = partition.dump()
    assert node.submit(alone(), alone(key=HERE), again=True) == first
    assert partition.dump() == before
    # Calls of another node have numbers of their own.
    assert partition.node("two").submit(alone()).answers == [Accepted(3)]


def test_a_call_that_was_overtaken_is_refused(partition: Partition) -> None:
    node = partition.node()
    node.submit(alone())
    node.submits = 7
    node.submit(alone())
    node.submits = 3
    with pytest.raises(redis.ResponseError, match="OVERTAKEN"):
        node.submit(alone())
    assert partition.counts().waiting == 2


def test_a_number_that_the_store_has_lost_is_given_to_no_other_job(client: redis.Redis) -> None:
    """A process of the server that did not give the last number goes on by the clock, in each partition."""
    partition = Partition(client, 3, 16)
    node = partition.node()
    calls = itertools.count(1)

    def number(process: str) -> int:
        words = groups.submit_arguments(
            MARKER, node.name, next(calls), [alone()], bounds=node.bounds, partitions=partition.of
        )
        (answer,) = groups.read_submitted(partition.run(scripts.SUBMIT, [*words, process])).answers
        assert isinstance(answer, Accepted)
        return answer.first // partition.of

    assert [number("one"), number("one"), number("one")] == [1, 2, 3]
    # Its last writes are lost, and another process goes on.
    client.set(partition.keys.prefix + b"n", 1)
    least = (time.time() - EPOCH_S - 60) * 2**17 / partition.of
    first = number("two")
    assert least < first < least + 120 * 2**17 / partition.of
    assert first % 256 == 0
    assert [number("two"), number("two")] == [first + 1, first + 2]
    # So does one that does not say which it is.
    time.sleep(0.05)
    assert number("") > first + 3
    # A number that is ahead of the clock is not given again.
    client.set(partition.keys.prefix + b"n", 2 * first)
    assert number("three") == 2 * first + 1


def test_a_group_is_accepted_whole_or_not_at_all(partition: Partition) -> None:
    node = partition.node()
    node.bounds = SubmitBounds(size=3, payload_bytes=100, key_ms=60_000, keys=10)
    batch = SubmitGroup([job(), job()], "batch")
    assert node.submit(batch, batch, alone(), alone()).answers == [Accepted(1), NoPlaces(1), Accepted(3), NoPlaces(0)]
    assert partition.counts().waiting == 3
    node.claim()
    assert node.submit(alone(payload=b"x" * 88), alone(payload=b"y" * 89)).answers == [Accepted(4), NoBytes(0)]
    assert faults(partition) == []


def test_a_key_stands_for_one_job(partition: Partition) -> None:
    node = partition.node()
    batch = Key.of("b", b"x")
    assert node.submit(alone(key=HERE), alone(key=HERE), alone(key=THERE)).answers == [
        Accepted(1),
        Replayed(1, 0),
        Reused(),
    ]
    assert node.submit(SubmitGroup([job(), job()], "batch", batch)).answers == [Accepted(2)]
    other = partition.node("two")
    again = SubmitGroup([job(), job()], "batch", batch)
    assert other.submit(alone(key=HERE), alone(key=THERE), again).answers == [Replayed(1, 0), Reused(), Replayed(2, 2)]
    assert partition.counts().waiting == 3


def test_a_known_key_is_answered_whatever_else_would_refuse_it(partition: Partition) -> None:
    node = partition.node()
    node.submit(alone(key=HERE))
    node.bounds = SubmitBounds(size=1, payload_bytes=1, key_ms=60_000, keys=10)
    close(partition, TaskHold(intake="closed"))
    assert node.submit(alone(key=HERE)).answers == [Replayed(1, 0)]


def test_a_refused_group_does_not_take_its_key(partition: Partition) -> None:
    node = partition.node()
    node.bounds = SubmitBounds(size=0, payload_bytes=1, key_ms=60_000, keys=10)
    assert node.submit(alone(key=HERE)).answers == [NoPlaces(0)]
    node.bounds = SubmitBounds(size=1, payload_bytes=10, key_ms=60_000, keys=10)
    assert node.submit(alone(key=THERE)).answers == [Accepted(1)]


def test_keys_beyond_the_bound_are_forgotten_the_oldest_first(partition: Partition) -> None:
    node = partition.node()
    node.bounds = SubmitBounds(size=100, payload_bytes=1000, key_ms=60_000, keys=3)
    keys = [Key.of(f"k:{number}", b"") for number in range(5)]
    node.submit(*(alone(key=key) for key in keys))
    assert [key.text for key in keys if partition.client.exists(partition.keys.key(key.text))] == ["k:2", "k:3", "k:4"]
    assert partition.client.llen(partition.keys.prefix + b"ks") == 3


def test_a_key_expires(partition: Partition) -> None:
    node = partition.node()
    node.bounds = SubmitBounds(size=100, payload_bytes=1000, key_ms=40, keys=3)
    node.submit(alone(key=HERE))
    assert 0 < partition.client.pttl(partition.keys.key("k")) <= 40
    partition.client.delete(partition.keys.key("k"))
    assert node.submit(alone(key=THERE)).answers == [Accepted(2)]


def test_a_key_that_came_again_is_not_forgotten_with_its_first_use(partition: Partition) -> None:
    node = partition.node()
    node.bounds = SubmitBounds(size=100, payload_bytes=1000, key_ms=60_000, keys=2)
    node.submit(alone(key=HERE))
    partition.client.delete(partition.keys.key("k"))
    node.submit(alone(key=HERE))
    # Now the first use leaves.
    node.submit(alone(key=Key.of("other", b"")))
    assert node.submit(alone(key=HERE)).answers == [Replayed(2, 0)]


def close(partition: Partition, hold: TaskHold, task: str = "noop") -> None:
    arguments = changes.switch_arguments(MARKER, task, before=b"", after=changes.encode_hold(hold))
    assert changes.read_switched(partition.run(scripts.SWITCH, arguments))[0]


def test_a_closed_task_accepts_no_job_and_no_batch_with_one(partition: Partition) -> None:
    hold = TaskHold(intake="closed", reason="moving")
    close(partition, hold)
    node = partition.node()
    batch = SubmitGroup([job("sum"), job()], "batch")
    assert node.submit(alone(), batch, alone("sum")).answers == [
        Closed("noop", hold),
        Closed("noop", hold),
        Accepted(1),
    ]


def test_a_task_whose_hold_is_over_accepts_jobs(partition: Partition) -> None:
    now = partition.counts().now_ms / 1000
    close(partition, TaskHold(intake="closed", until=now - 0.001))
    close(partition, TaskHold(intake="closed", until=now + 60), "sum")
    close(partition, TaskHold(dispatch="hold"), "mail")
    node = partition.node()
    kinds = [type(answer) for answer in node.submit(alone(), alone("sum"), alone("mail")).answers]
    assert kinds == [Accepted, Closed, Accepted]


def test_switches_are_set_only_over_those_that_were_seen(partition: Partition) -> None:
    close(partition, TaskHold(intake="closed"))
    arguments = changes.switch_arguments(MARKER, "noop", before=b"", after=b"{}")
    assert changes.read_switched(partition.run(scripts.SWITCH, arguments)) == (
        False,
        b'{"dispatch":"run","intake":"closed","until":null,"reason":""}',
    )


def test_sixteen_orders_may_be_open_whatever_the_bound(partition: Partition) -> None:
    node = partition.node()
    node.bounds = SubmitBounds(size=0, payload_bytes=0, key_ms=1, keys=1)
    order = SubmitGroup([job("headway.retry")], "order")
    assert node.submit(*[order] * 17).answers == [*(Accepted(number) for number in range(1, 17)), NoOrders()]
    claimed = node.claim(0)
    assert numbers(claimed) == list(range(1, 17))
    node.finish(ended(claimed[0]))
    assert node.submit(order).answers == [Accepted(17)]
    assert faults(partition) == []


def test_keys_of_other_ids_are_left_alone(partition: Partition) -> None:
    node = partition.node()
    for marker in (b"0therone", None):
        if marker is None:
            partition.client.delete(partition.keys.marker)
        else:
            partition.client.set(partition.keys.marker, marker)
        before = partition.dump()
        for call in (lambda: node.submit(alone()), node.claim, lambda: partition.cancel(1)):
            with pytest.raises(redis.ResponseError, match="MISPLACED"):
                call()
        assert partition.dump() == before


def test_a_dead_node_submits_nothing(partition: Partition) -> None:
    node = partition.node()
    node.die()
    partition.reap(node)
    with pytest.raises(redis.ResponseError, match="DEAD"):
        node.submit(alone())
    assert partition.counts().waiting == 0


@pytest.mark.parametrize("key", ["q:5:noop", "ready", "d", "x", "c", "n", "ks", "calls", "hold", "tags"])
def test_a_key_of_a_wrong_type_refuses_all_of_a_call(partition: Partition, key: str) -> None:
    node = partition.node()
    partition.client.set(partition.keys.prefix + key.encode(), "nonsense") if key != "n" else partition.client.rpush(
        partition.keys.prefix + b"n", "nonsense"
    )
    before = partition.dump()
    some = alone(delay_ms=5, deadline_ms=9, tags=("a",)), alone(key=HERE), SubmitGroup([job(), job()], "batch")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        node.submit(*some)
    assert partition.dump() == before
    partition.client.delete(partition.keys.prefix + key.encode())
    assert node.submit(*some, again=True).answers == [Accepted(1), Accepted(2), Accepted(3)]
    assert faults(partition) == []


def test_a_full_store_accepts_nothing_and_answers_for_before(partition: Partition) -> None:
    """V12."""
    node = partition.node()
    first = node.submit(alone(key=HERE))
    partition.client.config_set("maxmemory", "1mb")
    before = partition.dump()
    assert node.submit(alone(key=HERE), again=True) == first
    assert node.submit(alone(key=HERE)).answers == [Replayed(1, 0)]
    for some in ([alone()], [alone(key=HERE), SubmitGroup([job(), job()], "batch")], [alone(delay_ms=9)]):
        with pytest.raises(redis.OutOfMemoryError):
            node.submit(*some)
    assert partition.dump() == before
    partition.client.config_set("maxmemory", "0")
    assert node.submit(alone()).answers == [Accepted(2)]


def test_a_call_that_fills_the_store_is_carried_out_whole(own_store: StoreServer) -> None:
    """V6: the bound of memory is reached within the script, and nothing is lost or doubled."""
    with own_store.client() as client:
        partition = Partition(client)
        node = partition.node()
        node.accept(job(payload=b"x" * 1_000_000))
        node.finish(*map(failed, node.claim()))
        most = client.info("memory")["used_memory"] + 1_500_000
        client.config_set("maxmemory", most)
        assert node.submit(*[resubmission(1)] * 5).answers == [Accepted(number) for number in range(2, 7)]
        assert client.info("memory")["used_memory"] > most
        with pytest.raises(redis.OutOfMemoryError):
            node.submit(alone())
        assert faults(partition) == []
        # Ends and reads go on, and make room.
        claimed = node.claim()
        assert numbers(claimed) == [2, 3, 4, 5, 6]
        assert node.finish(*map(ended, claimed)) == [True] * 5
        assert faults(partition) == []
        assert node.submit(alone()).answers == [Accepted(7)]


def resubmission(number: int, key: Key | None = None) -> SubmitGroup:
    source = NewJob("sum", b"%d" % number, payload_bytes=4, priority=3, tags=("a",))
    return SubmitGroup([source], "resubmission", key)


def test_a_failed_job_is_resubmitted_with_its_record(partition: Partition) -> None:
    node = partition.node()
    node.accept(job("sum", b"[1,2]", keep_ms=90_000), job())
    node.finish(*map(failed, node.claim(1)))
    answers = node.submit(resubmission(1, HERE), resubmission(2), resubmission(9)).answers
    assert answers == [Accepted(3), NotFailed(), NotFailed()]
    assert node.submit(resubmission(1, HERE)).answers == [Replayed(3, 0)]
    record, copy = partition.keys.record(1), partition.keys.record(3)
    assert partition.client.get(copy) == partition.client.get(record)
    assert partition.client.pttl(copy) == -1
    assert partition.client.pttl(record) > 60_000
    partition.client.delete(record)
    assert node.submit(resubmission(1)).answers == [PayloadGone()]


def test_an_order_counts_what_it_has_resubmitted_in_the_same_step(partition: Partition) -> None:
    node = partition.node()
    node.submit(SubmitGroup([job("headway.retry")], "order"))
    node.accept(*[job("sum")] * 4)
    (order,) = node.claim(0)
    node.finish(*(failed(one) if one.sequence != 3 else ended(one) for one in node.claim()))
    node.bounds = SubmitBounds(size=2, payload_bytes=100, key_ms=1, keys=1)
    step = OrderStep(order.sequence, order.attempt, node.name)
    again = [resubmission(number) for number in (2, 3, 4, 5)]
    assert node.submit(*again, order=step).answers == [Accepted(6), NotFailed(), Accepted(7), NoPlaces(0)]
    assert node.submit(*again, order=step, again=True).answers[-1] == NoPlaces(0)
    progress = partition.client.hgetall(partition.keys.prefix + b"o:1")
    assert progress == {b"done": b"2", b"skipped": b"1", b"upto": b"4"}
    # Nothing is left of an order that nobody goes on with.
    assert 0 < partition.client.pttl(partition.keys.order(1)) <= KEPT_MS
    node.die()
    partition.reap(node)
    with pytest.raises(redis.ResponseError, match="FENCED"):
        partition.node("two").submit(resubmission(5), order=step)
    assert faults(partition) == []


def test_what_comes_after_an_order_has_a_later_time(partition: Partition) -> None:
    node = partition.node()
    for _ in range(30):
        first, second, third = node.accept(job(), job(), job())
        claims = node.claim()
        node.finish(ended(claims[0]))
        (accepted,) = node.submit(SubmitGroup([job("headway.retry")], "order")).answers
        assert isinstance(accepted, Accepted)
        node.finish(ended(claims[1]))
        partition.cancel(third)
        order, *ends = map(partition.facts, (accepted.first, first, second, third))
        assert order is not None
        times = [0 if facts is None else facts.ended_ms - order.submitted_ms for facts in ends]
        assert times[0] <= 0 < min(times[1:])
        node.finish(*map(ended, node.claim(0)))
