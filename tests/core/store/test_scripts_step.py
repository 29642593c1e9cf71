"""The script ``step``: order of claims, limits, ends of attempts, fences, and steps that are repeated."""

from __future__ import annotations

import time
from collections import Counter

import pytest
import redis
from headway.core.hold import TaskHold
from headway.core.job import Reason, State
from headway.core.retention import Retention
from headway.core.store import changes, scripts
from headway.core.store.groups import SubmitGroup
from headway.core.store.record import decode_record, decode_result
from headway.core.store.steps import (
    Finish,
    FinishPutBack,
    FinishRelease,
    FinishRetry,
    FinishSnooze,
    FreePlaces,
    Overdue,
)

from tests.core.store.audit import faults
from tests.core.store.partition import MARKER, TERMS, Node, Partition, ended, failed, job, numbers


def hold(partition: Partition, task: str, until: float | None = None) -> None:
    text = changes.encode_hold(TaskHold(dispatch="hold", until=until))
    partition.run(scripts.SWITCH, changes.switch_arguments(MARKER, task, before=b"", after=text))


def test_the_highest_priority_comes_first_then_the_oldest_job(partition: Partition) -> None:
    node = partition.node()
    node.accept(job(), job("sum", priority=9), job(priority=9), job("sum"), job("mail", priority=0), job("sum"))
    assert numbers(node.claim()) == [2, 3, 1, 4, 6, 5]
    assert faults(partition) == []


def test_every_sixty_fourth_claim_takes_the_oldest_job_of_all(partition: Partition) -> None:
    node = partition.node()
    node.accept(job("mail", priority=0), *[job(priority=9)] * 100)
    taken: list[int] = []
    while 1 not in taken:
        (one,) = node.claim(1)
        taken.append(one.sequence)
        node.finish(ended(one))
    assert len(taken) == 64
    assert faults(partition) == []


def test_a_claim_has_all_that_is_needed_to_run_a_job(partition: Partition) -> None:
    node = partition.node()
    node.submit(SubmitGroup([job(payload=b"[1,2]", deadline_ms=60_000, tags=("a",)), job()], "batch"))
    first, second = node.claim()
    assert decode_record(first.record) == (TERMS, b"[1,2]")
    assert (first.task, first.attempt, first.batch, second.batch) == ("noop", 1, (1, 2), (1, 2))
    assert first.deadline_ms == first.submitted_ms + 60_000
    assert (first.due_ms, second.deadline_ms) == (None, None)
    facts = partition.facts(1)
    assert facts is not None
    assert (facts.state, facts.attempt, facts.node) == (State.RUNNING, 1, b"one")


def test_a_step_that_is_repeated_gives_the_same_jobs_and_nothing_more(partition: Partition) -> None:
    node = partition.node()
    node.accept(*[job()] * 10)
    first = node.step(room=FreePlaces(3, 9, 9, 9))
    before = partition.dump()
    assert node.step(room=FreePlaces(3, 9, 9, 9), again=True).claimed == first.claimed
    assert partition.dump() == before
    ends = [ended(one) for one in first.claimed]
    second = node.step(*ends, room=FreePlaces(3, 9, 9, 9))
    again = node.step(*ends, room=FreePlaces(3, 9, 9, 9), again=True)
    assert again.done == second.done == [True] * 3
    assert again.claimed == second.claimed
    assert numbers(second.claimed) == [4, 5, 6]
    assert faults(partition) == []


def test_a_node_gets_only_tasks_and_lanes_that_it_has_room_for(partition: Partition) -> None:
    node = partition.node()
    node.accept(job("slow"), job("unknown"), job(), job("slow"), job(), job("sum"))
    assert numbers(node.step(room=FreePlaces(9, 9, 2, 1)).claimed) == [1, 3, 5]
    assert numbers(node.step(room=FreePlaces(9, 9, 0, 1)).claimed) == [4]
    assert numbers(node.step(room=FreePlaces(1, 9, 9, 9)).claimed) == [6]
    other = partition.node("two")
    assert other.claim() == []
    assert faults(partition) == []


def test_orders_take_no_place_of_other_jobs(partition: Partition) -> None:
    node = partition.node()
    node.accept(job(), job())
    node.submit(*[SubmitGroup([job("headway.retry")], "order")] * 2)
    assert numbers(node.step(room=FreePlaces(1, 9, 9, 9, 1)).claimed) == [1, 3]
    assert numbers(node.step(room=FreePlaces(0, 9, 9, 9, 9)).claimed) == [4]


def test_max_concurrent_holds_over_all_nodes(partition: Partition) -> None:
    """V5."""
    one, two = partition.node(mail=2), partition.node("two", mail=2)
    one.accept(*[job("mail")] * 5, job())
    claimed = one.claim(1)
    claimed += two.claim()
    assert numbers(claimed) == [1, 2, 6]
    assert one.claim() == []
    # A thread that goes on is counted until it returns.
    first = claimed[0]
    assert one.finish(ended(first, releases=False)) == [True]
    assert one.claim() == []
    assert one.finish(FinishRelease(sequence=first.sequence, attempt=1, task="mail")) == [True]
    assert numbers(one.claim()) == [3]
    assert faults(partition) == []


def test_a_release_that_is_repeated_counts_once(partition: Partition) -> None:
    node = partition.node(mail=2)
    node.accept(*[job("mail")] * 5)
    first, second = node.claim()
    node.finish(ended(first))
    node.step(ended(first), room=FreePlaces(0, 0, 0, 0), again=True)
    assert partition.counts().busy == {"mail": 1}
    assert numbers(node.claim()) == [3]
    node.finish(ended(second))


def test_a_held_task_is_passed_over_until_its_hold_is_over(partition: Partition) -> None:
    node = partition.node()
    node.accept(job("sum"), job(), job("mail"))
    now = partition.counts().now_ms / 1000
    hold(partition, "sum")
    hold(partition, "mail", until=now - 0.01)
    assert numbers(node.claim()) == [2, 3]
    assert node.step().more is False
    partition.client.delete(partition.keys.hold)
    assert numbers(node.claim()) == [1]


def test_a_result_is_kept_as_long_as_its_job(partition: Partition) -> None:
    node = partition.node()
    node.kept = Retention((0,) * 5 + (9, 9, 9, 0), (0.0,) * 5 + (20.0, 40.0, 60.0, 0.0))
    node.accept(job(), job(), job(), job(keep_ms=5000), job())
    claims = node.claim()
    results = [b"application/json\n[1]", b"", b"\nit broke"]
    states = State.SUCCEEDED, State.SUCCEEDED, State.FAILED, State.FAILED
    ends = [
        ended(one, state, reason=Reason.ERROR if state == State.FAILED else Reason.NONE, result=result)
        for one, state, result in zip(claims, states, [*results, b"\nx"], strict=False)
    ]
    assert node.finish(*ends) == [True] * 4
    partition.cancel(5, kept=node.kept)
    facts = [partition.facts(number) for number in range(1, 6)]
    assert [one and one.kept_until_ms - one.ended_ms for one in facts] == [20_000, 20_000, 40_000, 5000, 60_000]
    assert [one and one.has_result for one in facts] == [True, False, True, True, False]
    kept = [partition.client.get(partition.keys.result(number)) for number in (1, 2, 3)]
    assert kept == [results[0], None, results[2]]
    assert decode_result(results[0]).media_type == "application/json"
    for number, least, most in ((1, 19_000, 20_000), (3, 39_000, 40_000), (4, 4000, 5000), (5, 59_000, 60_000)):
        for key in (partition.keys.job(number), partition.keys.result(number), partition.keys.record(number)):
            assert partition.client.pttl(key) == -2 or least < partition.client.pttl(key) <= most, key
    assert [partition.client.exists(partition.keys.record(number)) for number in range(1, 6)] == [0, 0, 1, 1, 0]
    assert faults(partition) == []


def test_as_many_finished_jobs_are_kept_as_may_be(partition: Partition) -> None:
    node = partition.node()
    node.kept = Retention((0,) * 5 + (3, 1, 0, 0), (0.0,) * 5 + (60.0,) * 3 + (0.0,))
    node.accept(*[job()] * 10)
    claims = node.claim()
    node.write(5, 1, b"text")
    node.finish(*map(ended, claims[:4]), *map(failed, claims[4:7]))
    node.finish(ended(claims[9], result=b"text/plain\nx"), ended(claims[8]))
    partition.cancel(8, kept=node.kept)
    states = [partition.state(number) for number in range(1, 11)]
    gone, done = State.EXPIRED, State.SUCCEEDED
    assert states == [gone, gone, gone, done, gone, gone, State.FAILED, gone, done, done]
    keys = partition.keys
    assert not partition.client.exists(keys.record(5), keys.attempts(5), keys.result(5), keys.log(5))
    assert [partition.client.llen(partition.keys.ended(state)) for state in (5, 6, 7)] == [3, 1, 0]
    assert partition.counts().jobs[5:8] == [6, 3, 1]


def test_attempts_that_failed_are_kept_the_first_five_and_the_last_twenty(partition: Partition) -> None:
    node = partition.node()
    node.accept(job())
    for number in range(1, 31):
        (one,) = node.claim()
        assert one.attempt == number
        past = b"attempt %d" % number
        assert node.finish(FinishRetry(sequence=1, attempt=number, task="noop", delay_ms=0, past=past)) == [True]
    kept = partition.client.lrange(partition.keys.attempts(1), 0, -1)
    assert kept == [b"attempt %d" % number for number in (*range(1, 6), *range(11, 31))]
    assert partition.counts().retries == 30
    assert partition.client.pttl(partition.keys.attempts(1)) == -1
    node.finish(*map(ended, node.claim()))
    assert partition.client.pttl(partition.keys.attempts(1)) > 0


def test_a_retry_waits_and_a_snooze_is_no_attempt(partition: Partition) -> None:
    node = partition.node()
    node.accept(job(), job())
    node.claim()
    reply = node.step(
        FinishRetry(sequence=1, attempt=1, task="noop", delay_ms=30),
        FinishSnooze(sequence=2, attempt=1, task="noop", delay_ms=60_000),
    )
    assert (reply.done, reply.claimed, reply.next_ms) == ([True, True], [], 30)
    assert [partition.state(1), partition.state(2)] == [State.RETRYING, State.SCHEDULED]
    assert [(facts and facts.attempt) for facts in map(partition.facts, (1, 2))] == [1, 0]
    assert faults(partition) == []
    time.sleep(0.031)
    (again,) = node.claim()
    assert (again.sequence, again.attempt, again.due_ms) == (1, 2, reply.now_ms + 30)
    assert partition.revise(2, delay_ms=0).state == State.QUEUED
    (other,) = node.claim()
    assert (other.sequence, other.attempt) == (2, 1)
    assert faults(partition) == []


def test_jobs_that_are_put_back_are_first_in_their_line_and_lose_no_attempt(partition: Partition) -> None:
    node = partition.node()
    node.accept(*[job()] * 4)
    claims = node.claim(2)
    assert node.finish(*(FinishPutBack(sequence=one.sequence, attempt=1, task="noop") for one in claims[::-1]))
    assert faults(partition) == []
    again = partition.node("two").claim()
    assert [(one.sequence, one.attempt) for one in again] == [(1, 1), (2, 1), (3, 1), (4, 1)]


def test_a_job_is_due_at_its_time_by_the_clock_of_the_store(partition: Partition) -> None:
    """V16, V6: two nodes promote, and it runs once."""
    one, two = partition.node(), partition.node("two")
    one.accept(*[job(delay_ms=40)] * 150, job(delay_ms=86_400_000))
    assert one.claim() == []
    assert 0 < (one.step().next_ms or 0) <= 40
    time.sleep(0.041)
    found: Counter[int] = Counter()
    for node in (one, two) * 5:
        found.update(numbers(node.claim()))
    assert found == Counter(range(1, 151))
    assert partition.state(151) == State.SCHEDULED
    assert faults(partition) == []


def test_a_job_that_waits_fails_at_its_deadline(partition: Partition) -> None:
    node = partition.node()
    node.accept(job(deadline_ms=20), job(deadline_ms=20, delay_ms=60_000), job("unknown", deadline_ms=20))
    node.accept(job(deadline_ms=60_000), job(deadline_ms=20))
    node.finish(ended(node.claim(1)[0]))
    time.sleep(0.021)
    reply = node.step()
    assert sorted(reply.overdue, key=lambda one: one.sequence) == [
        Overdue(2, "noop", 0),
        Overdue(3, "unknown", 0),
        Overdue(5, "noop", 0),
    ]
    facts = partition.facts(2)
    assert facts is not None
    assert (facts.state, facts.reason) == (State.FAILED, Reason.DEADLINE)
    assert partition.client.get(partition.keys.result(2)) == b"\nits deadline came before an attempt succeeded"
    assert numbers(reply.claimed) == [4]
    assert node.step().next_ms is None
    assert faults(partition) == []


def test_a_running_job_is_guarded_again_once_it_waits(partition: Partition) -> None:
    node = partition.node()
    node.accept(job(deadline_ms=50))
    node.claim()
    assert node.step().next_ms is None
    reply = node.step(FinishRetry(sequence=1, attempt=1, task="noop", delay_ms=60_000))
    assert 0 < (reply.next_ms or 0) <= 50
    time.sleep(0.051)
    assert node.step().overdue == [Overdue(1, "noop", 1)]
    assert faults(partition) == []


def test_the_ends_of_a_batch_are_counted_for_as_long_as_its_jobs(partition: Partition) -> None:
    node = partition.node()
    # The last to end is not the one that is kept for longest.
    node.submit(SubmitGroup([job(keep_ms=30), job(), job(keep_ms=10_000), job(keep_ms=20_000)], "batch"))
    claims = node.claim(3)
    node.finish(failed(claims[0]), ended(claims[2]))
    assert partition.client.pttl(partition.keys.batch(1)) == -1
    node.finish(ended(claims[1]))
    partition.cancel(4)
    assert 59_000 < partition.client.pttl(partition.keys.batch(1)) <= 60_000
    time.sleep(0.035)
    found = partition.batch(1, 4)
    assert (found.pending, found.succeeded, found.failed, found.cancelled, found.expired) == (0, 2, 1, 1, 1)
    assert found.states == [0, 5, 5, 7]
    assert faults(partition) == []


def test_the_index_of_a_tag_is_kept_as_long_as_its_last_job(partition: Partition) -> None:
    node, index = partition.node(), partition.keys.prefix + b"g:red"
    node.accept(job(tags=("red",), keep_ms=40_000))
    node.finish(*map(ended, node.claim()))
    assert 39_000 < partition.client.pttl(index) <= 40_000
    # A job that waits is found by its tag, however long that is.
    node.accept(job(tags=("red",), keep_ms=20_000))
    assert partition.client.pttl(index) == -1
    node.finish(*map(ended, node.claim()))
    assert 39_000 < partition.client.pttl(index) <= 40_000
    assert faults(partition) == []


# Fences.


def test_of_two_ends_of_an_attempt_the_first_counts(partition: Partition) -> None:
    """V18."""
    node = partition.node()
    node.accept(job())
    (one,) = node.claim()
    assert node.finish(ended(one, result=b"text/plain\nyes"), failed(one)) == [True, False]
    assert node.finish(failed(one), ended(one)) == [False, True]
    assert partition.state(1) == State.SUCCEEDED
    assert partition.client.get(partition.keys.result(1)) == b"text/plain\nyes"
    assert partition.counts().jobs[5:7] == [1, 0]
    assert faults(partition) == []


def test_an_end_of_another_attempt_or_node_counts_for_nothing(partition: Partition) -> None:
    """V18: a late end never clobbers the next attempt."""
    one, two = partition.node(), partition.node("two")
    one.accept(job())
    (first,) = one.claim()
    one.finish(FinishRetry(sequence=1, attempt=1, task="noop", delay_ms=0))
    (second,) = two.claim()
    assert second.attempt == 2
    assert one.finish(ended(first), ended(second)) == [False, False]
    assert two.finish(ended(first)) == [False]
    assert partition.state(1) == State.RUNNING
    assert two.finish(ended(second)) == [True]
    assert two.finish(FinishRetry(sequence=1, attempt=2, task="noop", delay_ms=0)) == [False]
    assert partition.state(1) == State.SUCCEEDED
    assert one.finish(ended(first), FinishPutBack(sequence=7, attempt=1, task="noop")) == [False, False]
    assert faults(partition) == []


def test_a_cancellation_wins_over_a_later_end(partition: Partition) -> None:
    node = partition.node()
    node.accept(job(), job(), job(delay_ms=60_000), job())
    (one,) = node.claim(1)
    answers = partition.cancel(1, 2, 3, 9)
    assert [answer.value for answer in answers] == [b"asked", b"dropped", b"dropped", b"gone"]
    assert node.finish(ended(one, result=b"text/plain\nx")) == [False]
    facts = partition.facts(1)
    assert facts is not None
    assert (facts.state, facts.reason, facts.has_result) == (State.CANCELLED, Reason.INTERRUPTED, False)
    assert numbers(node.claim()) == [4]
    assert partition.cancel(1)[0].value == b"nothing"
    assert faults(partition) == []


def test_a_finished_job_is_forgotten_and_keeps_its_state(partition: Partition) -> None:
    node = partition.node()
    node.accept(job(), job(), job())
    one, two, three = node.claim()
    node.write(1, 1, b"text")
    # The third has returned nothing. That is forgotten, too: it is not told as ``null`` any more.
    node.finish(ended(one, result=b"text/plain\nx"), failed(two, past=b"attempt"), ended(three))
    jobs = 1, 2, 3
    assert [answer.value for answer in partition.cancel(*jobs, mode=changes.CancelMode.CANCEL)] == [b"nothing"] * 3
    assert [answer.value for answer in partition.cancel(*jobs, mode=changes.CancelMode.FORGET)] == [b"forgotten"] * 3
    assert [partition.state(number) for number in jobs] == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED]
    keys = partition.keys
    for number in jobs:
        rest = keys.result(number), keys.attempts(number), keys.log(number), keys.record(number)
        assert partition.client.exists(*rest) == 0
        facts = partition.facts(number)
        assert facts is not None
        assert (facts.has_result, facts.log_bytes) == (True, 0)
        assert partition.client.pttl(keys.job(number)) > 0


def test_a_finished_job_that_comes_back_into_a_line_is_not_run(partition: Partition) -> None:
    """V9: an entry of a job that a failover has brought back."""
    node = partition.node()
    node.accept(job(), job())
    node.finish(*map(ended, node.claim(1)))
    partition.client.lpush(partition.keys.line(5, "noop"), 1, 99, 1)
    assert numbers(node.claim()) == [2]
    assert partition.client.llen(partition.keys.line(5, "noop")) == 0


def test_a_dead_node_gets_nothing_and_ends_nothing(partition: Partition) -> None:
    """V4."""
    one, two = partition.node(), partition.node("two")
    one.accept(job())
    (claimed,) = one.claim()
    one.die()
    partition.reap(one)
    for call in (
        lambda: one.step(ended(claimed)),
        lambda: one.report(1, 1, 50),
        lambda: one.write(1, 1, b"late"),
    ):
        with pytest.raises(redis.ResponseError, match="DEAD"):
            call()
    assert partition.state(1) == State.QUEUED
    (again,) = two.claim()
    assert again.attempt == 2
    assert faults(partition) == []


# Entries out of use.


def test_a_job_that_changes_its_priority_stands_once_and_last(partition: Partition) -> None:
    node = partition.node()
    node.accept(*[job()] * 4)
    assert partition.revise(1, priority=7).how == "done"
    assert partition.revise(1, priority=5).how == "done"
    assert partition.revise(2, delay_ms=60_000).state == State.SCHEDULED
    assert partition.revise(2, delay_ms=0).state == State.QUEUED
    assert partition.revise(3, priority=5).how == "same"
    assert faults(partition) == []
    assert numbers(node.claim()) == [3, 4, 1, 2]
    assert [partition.revise(1, priority=3).how, partition.revise(9, priority=3).how] == ["late", "gone"]
    assert faults(partition) == []


def test_a_job_that_comes_back_into_its_line_again_and_again_stands_last(partition: Partition) -> None:
    """None of its entries of before is in use again."""
    node = partition.node()
    node.accept(job(), job())
    for number in (3, 4):
        assert partition.revise(1, priority=7).how == "done"
        assert partition.revise(1, priority=5).how == "done"
        assert faults(partition) == []
        assert node.accept(job()) == [number]
    assert numbers(node.claim()) == [2, 3, 1, 4]
    assert faults(partition) == []


def test_entries_out_of_use_leave_with_the_last_job(partition: Partition) -> None:
    node = partition.node()
    node.accept(*[job()] * 2000)
    partition.cancel(*range(2, 2001))
    assert numbers(node.claim(1)) == [1]
    assert partition.client.exists(partition.keys.line(5, "noop"), partition.keys.ready) == 0
    node.accept(job())
    assert numbers(node.claim(1)) == [2001]
    assert faults(partition) == []


def test_a_long_run_of_entries_out_of_use_is_passed_over_in_parts(partition: Partition) -> None:
    node = partition.node()
    node.accept(*[job()] * 1600)
    partition.cancel(*range(1, 1600))
    found: list[int] = []
    looks = 0
    while not found:
        reply = node.step()
        found, looks = numbers(reply.claimed), looks + 1
        assert found or reply.more
    assert (found, looks) == ([1600], 4)
    assert faults(partition) == []


def test_a_count_that_is_wrong_mends_itself(partition: Partition) -> None:
    node = partition.node()
    node.accept(job())
    partition.client.hset(partition.keys.ready, "5:noop", 3)
    assert numbers(node.claim()) == [1]
    reply = node.step()
    assert (reply.claimed, reply.more) == ([], False)
    assert faults(partition) == []


def test_a_job_whose_payload_is_gone_fails_and_the_others_go_on(partition: Partition) -> None:
    node = partition.node()
    node.accept(job(), job(deadline_ms=60_000), job())
    partition.client.delete(partition.keys.record(2))
    assert numbers(node.claim()) == [1, 3]
    facts = partition.facts(2)
    assert facts is not None
    assert (facts.state, facts.reason) == (State.FAILED, Reason.INVALID_PAYLOAD)
    assert partition.client.get(partition.keys.result(2)) == b"\nits payload is no longer in the store"
    assert faults(partition) == []


# A full store, and keys of a wrong type.


def test_attempts_end_and_begin_on_a_full_store(partition: Partition) -> None:
    """V12."""
    node = partition.node()
    node.accept(*[job()] * 8, job(delay_ms=1))
    claims = node.claim(4)
    partition.client.config_set("maxmemory", "1mb")
    finishes = [
        ended(claims[0], result=b"text/plain\n" + b"x" * 1000),
        FinishRetry(sequence=2, attempt=1, task="noop", delay_ms=0, past=b"failed"),
        FinishPutBack(sequence=3, attempt=1, task="noop"),
        failed(claims[3], past=b"failed"),
    ]
    reply = node.step(*finishes, room=FreePlaces(1, 9, 9, 9))
    assert (reply.done, numbers(reply.claimed)) == ([True] * 4, [3])
    assert node.report(3, 1, 50, "half")
    assert node.write(3, 1, b"text")
    assert partition.counts().waiting == 6
    assert partition.revise(6, priority=7).how == "done"
    assert len(partition.cancel(5, 1)) == 2
    assert node.in_hand() == {3: 1}
    node.die()
    assert partition.reap(node).how == "done"
    assert partition.batch(1, 1).states == [5]
    assert faults(partition) == []


@pytest.mark.parametrize("key", ["run:one", "ready", "d", "x", "c", "steps", "m", "nodes", "hold"])
def test_a_key_of_a_wrong_type_stops_a_step_before_it_changes_anything(partition: Partition, key: str) -> None:
    node = partition.node()
    node.accept(*[job()] * 3, job(delay_ms=1), job(deadline_ms=1))
    claims = node.claim(2)
    time.sleep(0.002)
    name = partition.keys.prefix + key.encode()
    value = partition.client.dump(name)
    partition.client.delete(name)
    partition.client.execute_command("PFADD", name, "nonsense") if key == "m" else partition.client.set(name, "x")
    if key == "m":
        partition.client.delete(name)
        partition.client.rpush(name, "x")
    before = partition.dump()
    finishes = ended(claims[0]), FinishRetry(sequence=2, attempt=1, task="noop", delay_ms=0)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        node.step(*finishes)
    assert partition.dump() == before
    partition.client.delete(name)
    if value is not None:
        partition.client.restore(name, 0, value)
    assert node.step(*finishes, again=True).done == [True, True]
    node.claim()
    assert faults(partition) == []


def test_a_promotion_that_fails_midway_loses_and_doubles_nothing(partition: Partition) -> None:
    """V6."""
    node = partition.node()
    tasks = ["noop", "sum", "mail", "noop", "sum"]
    node.accept(*[job(task, delay_ms=1) for task in tasks])
    time.sleep(0.002)
    partition.client.set(partition.keys.line(5, "mail"), "x")
    before = partition.dump()
    for _ in range(3):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            node.step()
    assert partition.dump() == before
    partition.client.delete(partition.keys.line(5, "mail"))
    assert sorted(numbers(node.claim())) == [1, 2, 3, 4, 5]
    assert faults(partition) == []


@pytest.mark.parametrize("key", ["e:5", "busy", "held:one", "idle", "tags", "b:1", "a:2", "g:a", "ev"])
def test_an_index_of_a_wrong_type_stops_no_attempt(partition: Partition, key: str) -> None:
    node = partition.node()
    node.submit(SubmitGroup([job(tags=("a",)), job()], "batch"))
    claims = node.claim(2)
    partition.client.delete(partition.keys.prefix + key.encode())
    partition.client.set(partition.keys.prefix + key.encode(), "x")
    partition.client.set(partition.keys.watched, 100)
    retry = FinishRetry(sequence=2, attempt=1, task="noop", delay_ms=0, past=b"failed")
    assert node.step(ended(claims[0]), retry).done == [True, True]
    assert numbers(node.claim()) == [2]
    assert [partition.state(1), partition.state(2)] == [State.SUCCEEDED, State.RUNNING]


# Bounds of a step.


def test_a_step_gives_so_many_jobs_and_bytes_at_most(partition: Partition) -> None:
    node = partition.node()
    node.accept(*[job()] * 1500)
    room = FreePlaces(5000, 5000, 5000, 5000)
    found = []
    while claimed := node.step(room=room).claimed:
        found.append(len(claimed))
        assert numbers(node.step(room=room, again=True).claimed) == numbers(claimed)
    assert found == [64] * 23 + [28]
    partition.cancel(*range(1, 1501))
    node.accept(*[job(payload=b"x" * 1_500_000)] * 7)
    replies = [node.step(room=room) for _ in range(3)]
    assert [(len(reply.claimed), reply.more) for reply in replies] == [(3, True), (3, True), (1, False)]


def test_a_step_takes_thousands_of_ends(partition: Partition) -> None:
    node = partition.node()
    node.accept(*[job()] * 2500)
    claims = []
    while some := node.claim(5000):
        claims += some
    assert node.finish(*map(ended, claims)) == [True] * 2500
    assert partition.counts().jobs[State.SUCCEEDED] == 2500
    assert faults(partition) == []


def test_a_step_with_nothing_to_do_writes_nothing(partition: Partition) -> None:
    node = partition.node()
    node.accept(job("unknown"), job(delay_ms=60_000))
    node.step()
    changes_before = partition.client.info("persistence")["rdb_changes_since_last_save"]
    for _ in range(3):
        node.step()
        partition.counts()
        partition.batch(1, 1)
    assert partition.client.info("persistence")["rdb_changes_since_last_save"] == changes_before


# Nodes side by side.


def test_jobs_of_two_nodes_run_once_each(partition: Partition) -> None:
    nodes = [partition.node("one"), partition.node("two")]
    nodes[0].accept(*[job(priority=number % 3) for number in range(300)])
    ran: Counter[int] = Counter()
    ends: dict[Node, list[Finish]] = {node: [] for node in nodes}
    while sum(ran.values()) < 300:
        for node in nodes:
            reply = node.step(*ends[node], room=FreePlaces(7, 7, 7, 7))
            assert all(reply.done)
            ran.update(numbers(reply.claimed))
            ends[node] = [ended(one) for one in reply.claimed]
    assert set(ran.values()) == {1}
    for node in nodes:
        node.finish(*ends[node])
    assert partition.counts().jobs[5] == 300
    assert faults(partition) == []
