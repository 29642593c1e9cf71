"""Jobs in the hands of a node: claimed, run, ended, put back and given up."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from headway.core.job import Reason, State
from headway.core.past_attempt import decode_attempt
from headway.core.retention import DEFAULT
from headway.core.store.changes import CancelAnswer, reap_arguments
from headway.core.store.record import LOG_FIELDS, decode_result, read_log
from headway.core.store.scripts import REAP
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Options
from headway.core.tasks.retry import Snooze

from tests.core.engines import broken, double, triple
from tests.core.nodes.nodes import IDS, KEYS, Client, client, soon, standing, told

# Stores, and journals that are carried over, take their time.
pytestmark = pytest.mark.long

MINUTE = 60_000


async def result(node: Client, sequence: int) -> bytes:
    return decode_result(await node.link.call("GET", KEYS.result(sequence))).body


async def test_jobs_run_and_end(store_url: str) -> None:
    async with standing(store_url, double, triple) as node:
        ran = await node.submit("double", 21)
        ran += await node.submit("triple", 14)
        assert [facts.state for facts in await node.over(*ran)] == [State.SUCCEEDED] * 2
        assert [await result(node, sequence) for sequence in ran] == [b"42", b"42"]


async def test_a_thousand_jobs_take_few_steps(store_url: str) -> None:
    async with standing(store_url, double, workers=32) as node:
        before = (await node.link.call("INFO", "commandstats")).decode()
        await node.over(*await node.submit("double", 1, count=1000))
        after = (await node.link.call("INFO", "commandstats")).decode()

        def calls(text: str) -> int:
            return sum(
                int(line.partition("calls=")[2].partition(",")[0])
                for line in text.splitlines()
                if line.startswith(("cmdstat_evalsha", "cmdstat_eval:"))
            )

        # 1,000 jobs by 32 workers.
        assert calls(after) - calls(before) < 80


async def test_no_more_jobs_are_claimed_than_there_are_free_workers(store_url: str) -> None:
    gate = asyncio.Event()

    async def waits(_: object) -> None:
        await gate.wait()

    async with standing(store_url, waits, workers=3) as node:
        jobs = await node.submit("waits", count=10)
        await soon(lambda: len(node.hands) == 3)
        # Longer than the next step by itself.
        await asyncio.sleep(1.2)
        states = [await node.state(sequence) for sequence in jobs]
        assert states == [State.RUNNING] * 3 + [State.QUEUED] * 7
        gate.set()
        await node.over(*jobs)


async def test_threads_that_were_given_up_count(store_url: str) -> None:
    """A thread that does not return has its part of the limit until it does."""
    gate, began = threading.Event(), []

    def stuck(number: int) -> None:
        began.append(number)
        gate.wait(10)

    async with standing(store_url, (stuck, Options(max_concurrent=1)), workers=4) as node:
        [first] = await node.submit("stuck", 1, timeout_s=0.1)
        facts = await node.over(first)
        assert facts[0].reason == Reason.TIMEOUT
        [second] = await node.submit("stuck", 2)
        await asyncio.sleep(1.2)
        assert (await node.state(second), began) == (State.QUEUED, [1])
        gate.set()
        await node.over(second)
        assert began == [1, 2]
        assert await node.link.call("HGETALL", KEYS.prefix + b"busy") == {}


async def test_a_thread_of_a_node_that_was_declared_dead_has_no_part_of_the_limit_to_give_back(store_url: str) -> None:
    """It was given back with the node's jobs. Given back twice it would let two run at once."""
    gates, began = [threading.Event(), threading.Event()], []

    def stuck(number: int, context: Context) -> None:
        began.append((number, context.attempt))
        gates[len(began) > 1].wait(10)

    async with standing(store_url, (stuck, Options(max_concurrent=1)), workers=4) as node:
        await node.submit("stuck", 1)
        await soon(lambda: began == [(1, 1)])
        words = reap_arguments(IDS.marker, node.node.name.encode(), kept=DEFAULT, lanes={}, missing_ms=0, has_left=True)
        await node.link.run(REAP, [KEYS.counts], *words)
        await soon(lambda: began == [(1, 1), (1, 2)])
        [second] = await node.submit("stuck", 2)
        gates[0].set()
        # Longer than the next step by itself.
        await asyncio.sleep(1.2)
        assert (await node.state(second), began) == (State.QUEUED, [(1, 1), (1, 2)])
        gates[1].set()
        await node.over(second)


async def test_a_failed_attempt_is_kept_and_logged_once(store_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with standing(store_url, broken) as node:
        [job] = await node.submit("broken", "why", retries=2)
        [facts] = await node.over(job)
        assert (facts.state, facts.attempt, facts.reason) == (State.FAILED, 3, Reason.ERROR)
        assert await result(node, job) == b"ValueError: why"
        past = [decode_attempt(one) for one in await node.link.call("LRANGE", KEYS.attempts(job), 0, -1)]
        assert [(one.number, one.error_type, one.error, one.place) for one in past] == [
            (number, "ValueError", "why", "loop") for number in (1, 2, 3)
        ]
        # By the clock of the store, as all other times of the job.
        assert facts.submitted_ms / 1000 <= past[0].started <= past[0].ended <= past[1].started
        job_id = IDS.write(job, IDS.tag(job)).decode()
        lines = [record.getMessage() for record in caplog.records if record.name == "headway.core.work.outcome"]
        assert lines == [
            f"job {job_id}: attempt {number} at task broken failed (error): ValueError: why" for number in (1, 2, 3)
        ]


async def test_a_snooze_is_no_attempt(store_url: str) -> None:
    seen: list[int] = []

    async def early(_: object, context: Context) -> None:
        seen.append(context.attempt)
        if len(seen) == 1:
            raise Snooze(0.05)

    async with standing(store_url, early) as node:
        [facts] = await node.over(*await node.submit("early"))
        assert (facts.state, facts.attempt, seen) == (State.SUCCEEDED, 1, [1, 1])


async def test_a_payload_that_does_not_fit_fails_at_once(store_url: str) -> None:
    async def typed(payload: int) -> None:
        pass

    async with standing(store_url, typed) as node:
        [facts] = await node.over(*await node.submit("typed", "text", retries=5))
        assert (facts.state, facts.reason, facts.attempt) == (State.FAILED, Reason.INVALID_PAYLOAD, 1)


async def test_a_deadline_is_of_the_clock_of_the_store(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node whose clock is an hour ahead interrupts no job before its time (V16)."""

    async def waits(seconds: float) -> None:
        await asyncio.sleep(seconds)

    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + 3600)
    async with standing(store_url, waits) as node:
        [late] = await node.submit("waits", 30, deadline_ms=300)
        [fine] = await node.submit("waits", 0.05, deadline_ms=MINUTE)
        first, second = await node.over(late, fine)
        assert (first.state, first.reason) == (State.FAILED, Reason.DEADLINE)
        assert 300 <= first.ended_ms - first.submitted_ms < 1000
        assert second.state == State.SUCCEEDED


async def test_progress_and_text_are_there_before_the_end(store_url: str) -> None:
    gate = asyncio.Event()

    async def tells(_: object, context: Context) -> None:
        context.progress(40, "half")
        context.log("first")
        await gate.wait()
        context.log("second")

    async with standing(store_url, tells) as node:
        [job] = await node.submit("tells")

        async def is_half() -> bool:
            facts = await node.facts(job)
            return (facts.progress, facts.message) == (40, "half")

        await told(is_half, 2)
        gate.set()
        await node.over(job)
        kept = read_log(await node.link.call("HMGET", KEYS.log(job), *LOG_FIELDS))
        assert bytes(kept.head) == b"first\nsecond\n"


async def test_jobs_that_only_wait_do_not_hold_up_a_drain(store_url: str) -> None:
    """One is due tomorrow (V19), and one stands in the line."""

    async def waits(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async with standing(store_url, waits, workers=1) as node:
        [runs] = await node.submit("waits", 0.3)
        [later] = await node.submit("waits", 0, delay_ms=24 * 60 * MINUTE)
        await node.running(runs)
        [stands] = await node.submit("waits", 0)
        began = time.monotonic()
        assert await node.hands.drain(10) == 0
        assert time.monotonic() - began < 2
        found = [await node.facts(sequence) for sequence in (runs, later, stands)]
        assert [facts.state for facts in found] == [State.SUCCEEDED, State.SCHEDULED, State.QUEUED]


async def test_jobs_that_come_after_a_drain_has_begun_go_back(store_url: str) -> None:
    """The step that claimed them was under way."""
    began: list[int] = []

    async def counts(number: int) -> None:
        began.append(number)

    async with standing(store_url, counts, workers=4) as node:
        await node.hands.drain(0.1)
        jobs = await node.submit("counts", 1, count=3)
        node.hands.resume()
        async with asyncio.timeout(5):
            while not node.hands.exchanges[0].asked:  # noqa: ASYNC110 — in the turn in which it leaves
                await asyncio.sleep(0)
        assert await node.hands.drain(5.0) == 0
        assert began == []
        found = [await node.facts(job) for job in jobs]
        assert [(facts.state, facts.attempt) for facts in found] == [(State.QUEUED, 0)] * 3


async def test_a_stopped_node_puts_its_jobs_back_as_if_they_had_not_begun(store_url: str) -> None:
    began: list[int] = []

    async def waits(number: int) -> None:
        began.append(number)
        if len(began) < 3:
            await asyncio.Event().wait()

    async with client(store_url) as outside:
        async with standing(store_url, waits, workers=2) as node:
            jobs = [*await node.submit("waits", 1), *await node.submit("waits", 2), *await node.submit("waits", 3)]
            await soon(lambda: len(began) == 2)
        found = [await outside.facts(sequence) for sequence in jobs]
        assert [(facts.state, facts.attempt) for facts in found] == [(State.QUEUED, 0)] * 3
        left = await outside.link.call("KEYS", KEYS.prefix + b"*" + node.node.name.encode() + b"*")
        assert (left, await outside.link.call("SMEMBERS", KEYS.nodes)) == ([], [outside.name.encode()])
        began += [0]
        async with standing(store_url, waits, workers=1):
            assert [facts.attempt for facts in await outside.over(*jobs)] == [1, 1, 1]
        assert began[3:] == [1, 2, 3]


async def test_a_node_claims_only_tasks_that_it_knows(store_url: str) -> None:
    async with standing(store_url, double) as node:
        [other] = await node.submit("triple", 1)
        await node.over(*await node.submit("double", 1))
        await asyncio.sleep(1.2)
        assert await node.state(other) == State.QUEUED
        async with standing(store_url, triple):
            await node.over(other)


@pytest.mark.parametrize("is_pushed", [True, False])
async def test_a_job_that_runs_elsewhere_is_interrupted(store_url: str, is_pushed: bool) -> None:
    """Within a second, and soon after it if the push was lost."""
    ended: list[float] = []

    async def waits(_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(time.monotonic())

    async with standing(store_url, waits) as node, client(store_url) as outside:
        [job] = await outside.submit("waits")
        await outside.running(job)
        if not is_pushed:
            node.link.unsubscribe(KEYS.channel(node.node.name))
            await node.link.call("PING")
        asked = time.monotonic()
        assert await outside.cancel(job) is CancelAnswer.ASKED
        assert await outside.state(job) == State.CANCELLED
        await soon(lambda: ended)
        assert ended[0] - asked < (0.2 if is_pushed else 1.5)
        # Its worker is free, and its limits are given back.
        await soon(lambda: node.hands.crew.free == 2)

        async def is_free() -> bool:
            return not await outside.link.call("HGETALL", KEYS.prefix + b"busy")

        await told(is_free, 2)
        assert len(node.hands) == 0


async def test_an_end_that_comes_after_a_cancellation_is_dropped_and_counted(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate = asyncio.Event()

    async def waits(_: object) -> None:
        await gate.wait()

    async with standing(store_url, waits) as node, client(store_url) as outside:
        (exchange,) = node.hands.exchanges
        node.link.unsubscribe(KEYS.channel(node.node.name))
        [job] = await outside.submit("waits")
        await outside.running(job)
        # A look was just made, and the next one would interrupt the attempt.
        answered = exchange.answered_at
        await soon(lambda: exchange.answered_at > answered)
        assert await outside.cancel(job) is CancelAnswer.ASKED
        gate.set()
        await soon(lambda: node.hands.fences.count == 1)
        assert await outside.state(job) == State.CANCELLED
        assert "the outcome of attempt 1 was dropped" in caplog.text


@pytest.mark.long
async def test_the_workers_are_for_all_partitions(store_url: str) -> None:
    """No more jobs are claimed than there are workers, and no partition is left out."""
    running: set[int] = set()
    most = 0

    async def counts(number: int) -> None:
        nonlocal most
        running.add(number)
        most = max(most, len(node.hands))
        await asyncio.sleep(0.001)
        running.discard(number)

    async with standing(store_url, counts, times={"partitions": 4}, workers=5) as node:
        # All of them stand there when it begins.
        await node.hands.drain(0.1)
        jobs = []
        for number in range(40):
            jobs += await node.submit("counts", number, count=5, keys=node.places[number % 4], partitions=4)
        assert {job % 4 for job in jobs} == {0, 1, 2, 3}
        node.hands.resume()

        async def is_over() -> bool:
            counted = [await node.link.call("HGET", keys.counts, "s:5") for keys in node.places]
            return sum(map(int, filter(None, counted))) == 200

        await told(is_over)
        assert most <= 5
        for keys in node.places:
            assert await node.link.call("HLEN", keys.run(node.node.name)) == 0


async def test_a_node_that_is_dead_for_one_partition_puts_the_jobs_of_the_others_back(store_url: str) -> None:
    """They have cost no attempt. It takes another name for all of them."""
    began: list[tuple[int, int]] = []
    gate = asyncio.Event()

    async def waits(number: int, context: Context) -> None:
        began.append((number, context.attempt))
        await gate.wait()

    async with standing(store_url, waits, times={"partitions": 2}, workers=2) as node:
        name = node.node.name
        for number, keys in enumerate(node.places):
            await node.submit("waits", number, keys=keys, partitions=2)
        await soon(lambda: len(began) == 2)
        words = reap_arguments(IDS.marker, name.encode(), kept=DEFAULT, lanes={}, missing_ms=0, has_left=True)
        await node.link.run(REAP, [node.places[0].counts], *words)
        await soon(lambda: len(began) == 4)
        assert sorted(began) == [(0, 1), (0, 2), (1, 1), (1, 1)]
        assert node.node.name != name
        assert (node.hands.fences.count, await node.link.call("HLEN", node.places[1].run(name))) == (0, 0)
        gate.set()
        await soon(lambda: not node.hands.held and all(one.is_settled for one in node.hands.exchanges))
        for keys in node.places:
            assert await node.link.call("HGET", keys.counts, "s:5") == b"1"
            assert await node.link.call("HGETALL", keys.prefix + b"busy") == {}


@pytest.mark.long
async def test_nothing_is_kept_of_jobs_that_have_ended(store_url: str) -> None:
    """Of ten thousand jobs nothing is left in the node (V20)."""

    async def tells(number: int, context: Context) -> None:
        context.log("text")
        if number % 10 == 3:
            raise ValueError

    async with standing(store_url, tells, workers=50) as node:
        jobs = [job for number in range(20) for job in await node.submit("tells", number, count=500)]
        await node.over(*jobs)
        await soon(lambda: node.hands.exchanges[0].is_settled)
        assert (len(node.hands), len(node.hands.remarks), node.hands.remarks.reports) == (0, 0, {})
        assert (len(node.hands.exchanges[0].outbox), node.hands.exchanges[0].outbox.bytes) == (0, 0)
        for key in (b"busy", b"run:" + node.node.name.encode(), b"held:" + node.node.name.encode()):
            assert await node.link.call("HLEN", KEYS.prefix + key) == 0


async def test_a_job_behind_thousands_that_were_cancelled_begins_at_once(store_url: str) -> None:
    """A step passes over some hundred entries of theirs, and nothing else may ring the node."""
    async with standing(store_url, double, workers=1) as node:
        await node.hands.drain(0.1)
        jobs = [job for _ in range(4) for job in await node.submit("double", 1, count=1000)]
        await asyncio.gather(*map(node.cancel, jobs[:-1]))
        began = time.monotonic()
        node.hands.resume()
        await node.over(jobs[-1])
        assert time.monotonic() - began < 2


async def test_a_job_that_is_submitted_during_a_step_begins_with_the_next_one(store_url: str) -> None:
    """No push has to tell of it: the node that took the submission has a free worker."""
    async with standing(store_url, double) as node:
        (exchange,) = node.hands.exchanges
        node.link.unsubscribe(KEYS.channel(node.node.name))
        await node.link.call("PING")
        await soon(lambda: exchange.is_settled)
        exchange.ring()
        async with asyncio.timeout(5):
            while not exchange.asked:  # noqa: ASYNC110 — in the turn in which it leaves
                await asyncio.sleep(0)
        began = time.monotonic()
        submitted = asyncio.ensure_future(node.submit("double", 1))
        await asyncio.sleep(0)
        node.hands.submitted(0)
        await node.over(*await submitted)
        assert time.monotonic() - began < 0.5


async def test_a_job_that_waits_fails_at_its_deadline_while_all_workers_are_busy(store_url: str) -> None:
    """The node that took it steps at that time."""

    async def waits(_: object) -> None:
        await asyncio.Event().wait()

    async with standing(store_url, waits, workers=1) as node:
        await node.running(*await node.submit("waits"))
        for _ in range(3):
            [job] = await node.submit("waits", deadline_ms=100)
            node.hands.expect(0, 0.1)
            [facts] = await node.over(job)
            assert facts.reason == Reason.DEADLINE
            assert facts.ended_ms - facts.submitted_ms < 400
