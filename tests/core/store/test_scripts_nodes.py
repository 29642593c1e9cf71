"""Nodes: who is alive, reaping, messages, progress and logs of attempts."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from headway.core.job import Reason, State, Terms
from headway.core.log_text import LogText
from headway.core.past_attempt import decode_attempt
from headway.core.store import changes, scripts
from headway.core.store.groups import SubmitGroup
from headway.core.store.steps import FinishPutBack, FinishRetry, FreePlaces
from headway.core.task import Lane
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.store.audit import faults
from tests.core.store.partition import MARKER, Node, Partition, ended, job, numbers
from tests.valkey_servers import StoreServer


@contextmanager
def heard(partition: Partition, *nodes: Node) -> Iterator[Any]:
    """Collect the messages to nodes: the function that is given returns those that have come."""
    with partition.client.pubsub() as subscription:
        for node in nodes:
            subscription.ssubscribe(partition.keys.channel(node.name.decode()))
            assert subscription.get_sharded_message(timeout=5)

        def messages() -> list[tuple[str, str]]:
            found = []
            while message := subscription.get_sharded_message(timeout=0.05):
                name = message["channel"].decode().rpartition(":")[2]
                found.append((name, message["data"].decode()))
            return found

        yield messages


# Reaping.


def test_a_node_with_a_heartbeat_is_left_alone(partition: Partition) -> None:
    node = partition.node()
    node.accept(job())
    node.claim()
    before = partition.dump()
    assert partition.reap(node) == changes.ReapReply("alive", [])
    assert partition.dump() == before
    assert partition.client.pttl(partition.keys.heartbeat("one")) > 9000
    assert node.in_hand() == {1: 1}


def test_jobs_of_a_dead_node_are_first_in_their_line(partition: Partition) -> None:
    one, two = partition.node(), partition.node("two")
    one.accept(*[job(deadline_ms=60_000)] * 5)
    one.claim(3)
    one.report(1, 1, 50, "half")
    one.die()
    reply = partition.reap(one)
    assert reply.how == "done"
    assert [(reaped.sequence, reaped.state) for reaped in reply.jobs] == [(3, 2), (2, 2), (1, 2)]
    facts = partition.facts(1)
    assert facts is not None
    assert (facts.progress, facts.message, facts.attempt) == (None, "", 1)
    assert faults(partition) == []
    assert [(claimed.sequence, claimed.attempt) for claimed in two.claim(4)] == [(1, 2), (2, 2), (3, 2), (4, 1)]
    (past,) = map(decode_attempt, partition.client.lrange(partition.keys.attempts(1), 0, -1))
    assert (past.number, past.reason, past.place) == (1, Reason.CRASHED, "thread")
    assert past.error == "was running when its node died"
    assert abs(past.ended - time.time()) < 5
    assert faults(partition) == []


def test_nothing_is_left_of_a_dead_node(partition: Partition) -> None:
    one = partition.node(mail=1)
    one.accept(job("mail"), job("mail"))
    one.claim()
    one.step(room=FreePlaces(1, 0, 0, 0))
    one.die()
    partition.reap(one)
    left = [key for key in partition.dump() if b"one" in key]
    assert left == []
    assert (partition.counts().nodes, partition.counts().dead, partition.counts().busy) == ([], [], {})
    assert partition.client.smembers(partition.keys.idle) == set()
    two = partition.node("two", mail=1)
    assert numbers(two.claim()) == [1]


def test_a_node_that_leaves_is_reaped_at_once(partition: Partition) -> None:
    one = partition.node()
    one.accept(job())
    one.claim()
    assert partition.reap(one, has_left=True).how == "done"
    assert partition.state(1) == State.QUEUED
    assert partition.reap(one).how == "done"
    assert faults(partition) == []


def test_a_job_that_was_begun_too_often_fails(partition: Partition) -> None:
    terms = Terms(timeout_s=5.0, retries=2)
    names = iter("abcdefgh")
    partition.node("first").accept(job(terms=terms, payload=b'"retries":9'))
    for attempt in range(1, 6):
        node = partition.node(next(names))
        assert [claimed.attempt for claimed in node.claim()] == [attempt]
        node.die()
        (reaped,) = partition.reap(node).jobs
        assert reaped.attempt == attempt
        assert (reaped.state, reaped.reason) == ((2, 0) if attempt < 5 else (6, Reason.CRASHED))
    error = partition.client.get(partition.keys.result(1))
    assert error == b"\nwas running when its node died, and 5 attempts were begun"
    assert partition.client.llen(partition.keys.attempts(1)) == 5
    assert 0 < partition.client.pttl(partition.keys.record(1)) <= 60_000
    assert faults(partition) == []


def test_a_reaped_job_past_its_deadline_fails(partition: Partition) -> None:
    node = partition.node()
    node.accept(job(deadline_ms=20))
    node.claim()
    time.sleep(0.021)
    node.die()
    (reaped,) = partition.reap(node).jobs
    assert (reaped.state, reaped.reason) == (State.FAILED, Reason.DEADLINE)
    assert faults(partition) == []


def test_eight_reapers_at_once_take_each_of_a_thousand_orphans_once(own_store: StoreServer) -> None:
    """V2."""
    with own_store.client() as client:
        partition = Partition(client)
        node = partition.node()
        node.accept(*[job()] * 1000)
        while node.claim():
            pass
        node.die()
        reaped: list[int] = []
        begin = threading.Barrier(8)

        def reap() -> None:
            with own_store.client() as own:
                mine = Partition(own)
                begin.wait()
                how = "more"
                while how == "more":
                    reply = mine.reap(node)
                    how = reply.how
                    reaped.extend(one.sequence for one in reply.jobs)

        threads = [threading.Thread(target=reap) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(reaped) == Counter(range(1, 1001))
        assert faults(partition) == []
        claimed: list[int] = []
        other = partition.node("two")
        while found := other.claim():
            claimed += numbers(found)
        assert claimed == list(range(1, 1001))


def test_a_job_that_another_node_runs_is_not_taken_from_it(partition: Partition) -> None:
    """The dead node may still have an entry, of a script that failed midway."""
    one, two = partition.node(), partition.node("two")
    one.accept(job())
    (claimed,) = two.claim()
    partition.client.hset(partition.keys.run("one"), "1", 1)
    one.die()
    assert partition.reap(one) == changes.ReapReply("done", [])
    assert partition.state(1) == State.RUNNING
    assert faults(partition) == []
    assert two.finish(ended(claimed)) == [True]


def test_a_reaper_that_dies_midway_is_followed_by_another(partition: Partition) -> None:
    """V3: the node is fenced from the first call on, and no lock is left."""
    one = partition.node()
    one.accept(*[job()] * 150)
    while one.claim():
        pass
    one.die()
    assert partition.reap(one).how == "more"
    counts = partition.counts()
    assert (counts.nodes, counts.dead) == ([], [b"one"])
    with pytest.raises(Exception, match="DEAD"):
        one.claim()
    # Even a heartbeat that comes now changes nothing.
    partition.client.set(partition.keys.heartbeat("one"), 1)
    assert [partition.reap(one).how for _ in range(3)] == ["more", "done", "done"]
    assert faults(partition) == []
    assert numbers(partition.node("two").claim(2)) == [1, 2]


def test_a_node_of_a_full_store_is_reaped(partition: Partition) -> None:
    node = partition.node()
    node.accept(job())
    node.claim()
    node.die()
    partition.client.config_set("maxmemory", "1mb")
    assert partition.reap(node).how == "done"
    assert numbers(partition.node("two").claim()) == [1]


# Messages.


def test_an_idle_node_that_knows_the_task_hears_of_work(partition: Partition) -> None:
    one, two, other = partition.node("one"), partition.node("two"), Node(partition, "other")
    other.join({})
    with heard(partition, one, two, other) as messages:
        two.claim()
        other.claim()
        assert one.submit(SubmitGroup([job()])).waiting == 1
        assert messages() == [("two", "work")]
        # It was told, and has not come yet.
        one.submit(SubmitGroup([job()]))
        assert messages() == []
        assert numbers(two.claim(2)) == [1, 2]
        one.submit(SubmitGroup([job()]))
        assert messages() == []


def test_a_node_that_has_room_for_its_own_jobs_wakes_nobody(partition: Partition) -> None:
    one, two = partition.node("one"), partition.node("two")
    two.join({"noop": (Lane.THREAD, None), "other": (Lane.LOOP, None)})
    two.claim()
    one.free = 2
    with heard(partition, two) as messages:
        one.submit(SubmitGroup([job()]), SubmitGroup([job()]))
        assert messages() == []
        one.submit(SubmitGroup([job()]), SubmitGroup([job()]), SubmitGroup([job()]))
        assert messages() == [("two", "work")]
        two.claim(32)
        # It does not know this task itself.
        one.submit(SubmitGroup([job("other")]))
        assert messages() == [("two", "work")]


def test_an_idle_node_that_has_gone_is_passed_over(partition: Partition) -> None:
    nodes = [partition.node(name) for name in "abcdef"]
    for node in nodes:
        node.claim()
    with heard(partition, nodes[3]) as messages:
        partition.node("keeper").submit(SubmitGroup([job()]))
        assert messages() == [("d", "work")]


def test_a_limit_that_a_dead_node_gives_back_wakes_a_node(partition: Partition) -> None:
    """Its job had ended at a timeout, and its thread had not returned."""
    dead, two = partition.node("one", noop=1), partition.node("two", noop=1)
    dead.accept(job(), job())
    (claimed,) = dead.claim()
    dead.finish(ended(claimed, State.FAILED, reason=Reason.TIMEOUT, releases=False))
    assert two.claim() == []
    with heard(partition, two) as messages:
        partition.reap(dead, has_left=True)
        assert messages() == [("two", "work")]
    assert numbers(two.claim()) == [2]


def test_a_node_that_leaves_work_wakes_the_next(partition: Partition) -> None:
    nodes = [partition.node(name) for name in ("one", "two", "three")]
    nodes[0].claim()
    nodes[2].claim()
    with heard(partition, *nodes) as messages:
        nodes[1].accept(*[job()] * 5)
        (first,) = messages()
        # The one that is told takes what it has room for, and leaves the rest to another.
        woken = next(node for node in nodes if node.name.decode() == first[0])
        woken.claim(2)
        (second,) = messages()
        assert {first[0], second[0]} == {"one", "three"}


def test_a_running_job_that_is_cancelled_is_told_to_its_node(partition: Partition) -> None:
    one, two = partition.node("one"), partition.node("two")
    one.accept(job(), job())
    two.claim(1)
    with heard(partition, one, two) as messages:
        partition.cancel(1, 2)
        assert messages() == [("two", "cancel 1 1")]
    assert two.in_hand() == {}


def test_work_that_comes_back_wakes_a_node(partition: Partition) -> None:
    one, two = partition.node("one"), partition.node("two")
    one.accept(job(), job(delay_ms=60_000))
    one.claim(1)
    two.claim()
    with heard(partition, two) as messages:
        one.die()
        partition.reap(one)
        assert messages() == [("two", "work")]
        two.claim()
        two.claim()
        partition.revise(2, delay_ms=0)
        assert messages() == [("two", "work")]
        two.claim()
        two.claim()
        hold = changes.switch_arguments(MARKER, "noop", before=b"", after=b'{"dispatch":"hold"}')
        partition.run(scripts.SWITCH, hold)
        assert messages() == [("two", "work")]


# Progress and logs.


def test_progress_is_that_of_the_attempt_that_runs(partition: Partition) -> None:
    one, two = partition.node("one"), partition.node("two")
    one.accept(job())
    one.claim()
    assert one.report(1, 1, 50, "half")
    facts = partition.facts(1)
    assert facts is not None
    assert (facts.progress, facts.message) == (50, "half")
    assert facts.progress_ms >= facts.started_ms
    assert one.report(1, 1, 60)
    assert [two.report(1, 1, 70), one.report(1, 2, 70), one.report(9, 1, 70)] == [False, False, False]
    one.report(1, 1, 65, "more")
    one.finish(FinishRetry(sequence=1, attempt=1, task="noop", delay_ms=0))
    facts = partition.facts(1)
    assert facts is not None
    assert (facts.progress, facts.message) == (65, "")
    assert not one.report(1, 1, 70)
    one.claim()
    facts = partition.facts(1)
    assert facts is not None
    assert facts.progress is None


def test_a_log_is_written_by_the_node_that_has_the_job(partition: Partition) -> None:
    one, two = partition.node("one"), partition.node("two")
    one.accept(job())
    (claimed,) = one.claim()
    assert one.write(1, 1, b"begun\n")
    assert not two.write(1, 1, b"x")
    assert not one.write(9, 1, b"x")
    facts = partition.facts(1)
    assert facts is not None
    assert facts.log_bytes == 6
    one.finish(FinishRetry(sequence=1, attempt=1, task="noop", delay_ms=0))
    (again,) = two.claim()
    assert two.write(1, 2, b"again")
    assert partition.log(1) == (b"begun\n--- attempt 2 ---\nagain", b"", 29)
    two.finish(ended(again))
    assert not two.write(1, 2, b"late")
    assert not one.finish(ended(claimed))[0]
    assert 0 < partition.client.pttl(partition.keys.log(1)) <= 60_000


def test_an_attempt_that_is_made_again_under_its_number_is_told_apart_in_the_log(partition: Partition) -> None:
    one, two = partition.node("one"), partition.node("two")
    one.accept(job())
    one.claim()
    one.write(1, 1, b"cut off")
    one.finish(FinishPutBack(sequence=1, attempt=1, task="noop"))
    two.claim()
    two.write(1, 1, b"begun ")
    two.write(1, 1, b"anew")
    assert partition.log(1)[0] == b"cut off\n--- attempt 1 ---\nbegun anew"


pieces = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 9), st.binary(max_size=40).map(lambda text: text * 3)), max_size=12
)


@pytest.mark.parametrize("bound", [64, 128])
def test_a_log_keeps_what_the_log_of_other_engines_keeps(partition: Partition, bound: int) -> None:
    node = partition.node()

    @settings(max_examples=60, deadline=None)
    @given(pieces)
    def check(written: list[tuple[int, int, bytes]]) -> None:
        partition.client.delete(partition.keys.log(1))
        text = LogText(bound)
        for attempt, skipped, piece in sorted(written, key=lambda one: one[0]):
            text.skip(skipped)
            text.add(attempt, piece)
            assert node.write(1, attempt, piece, skipped, bound)
        kept = text.read()
        assert partition.log(1) == (kept.head, kept.tail, kept.total)

    node.accept(job())
    node.claim()
    check()


def test_nodes_may_know_other_tasks_after_they_have_joined_and_no_longer_the_former(partition: Partition) -> None:
    node = partition.node()
    node.accept(job("new"))
    assert node.claim() == []
    node.join({"new": (None, None)})
    assert numbers(node.step(room=FreePlaces(0, 0, 0, 0, 1)).claimed) == [1]
    node.accept(job())
    assert node.claim() == []
