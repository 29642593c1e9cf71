"""Waiters: who is woken, when, and that nothing is left of those who were."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headway.core.board.batches import Batches
from headway.core.board.board import Board
from headway.core.board.outcomes import Outcomes
from headway.core.ids import Ids
from headway.core.job import State
from headway.core.local.waiting import BatchFinished, Finished
from headway.core.retention import Retention
from headway.core.status import BatchStatus, bare
from headway.core.waiters import SLOT_S, Waiter, Waiters
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core import virtual_time
from tests.core.virtual_time import Jumping

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "end", "cancel", "hurry", "pass_time", "release"]),
        st.integers(1, 4),
        st.integers(0, 30),
    ),
    max_size=60,
)


class Crowd:
    """Clients that wait for jobs 1 to 4; a step has a job and a number that means what the step makes of it."""

    def __init__(self, clock: Jumping) -> None:
        self.clock = clock
        self.waiters = Waiters()
        # How often each was woken; and of those that wait: the waiter, its job, and the end of its time.
        self.woken: list[int] = []
        self.waiting: dict[int, tuple[Waiter, int, float]] = {}

    async def add(self, sequence: int, tenths: int) -> None:
        number = len(self.woken)
        self.woken.append(0)

        def wake() -> None:
            self.woken[number] += 1

        waiter = self.waiters.add(sequence, tenths / 10, wake)
        self.waiting[number] = waiter, sequence, self.clock.now + tenths / 10

    async def end(self, sequence: int, _: int) -> None:
        self.waiters.ended(sequence)
        self.are_gone([number for number, wait in self.waiting.items() if wait[1] == sequence])

    async def release(self, *_: int) -> None:
        self.waiters.release()
        self.are_gone([*self.waiting])

    async def pass_time(self, _: int, tenths: int) -> None:
        await asyncio.sleep(tenths / 10)
        for number, wait in self.waiting.items():
            until = wait[2]
            # No sooner than they said, and later by two slots at most.
            assert not self.woken[number] or until <= self.clock.now
            assert self.woken[number] or self.clock.now < until + 2.1 * SLOT_S
        self.are_gone([number for number in self.waiting if self.woken[number]])

    async def cancel(self, _: int, tenths: int) -> None:
        self.give_up(tenths, Waiter.cancel, 0)

    async def hurry(self, _: int, tenths: int) -> None:
        self.give_up(tenths, Waiter.hurry, 1)

    def give_up(self, tenths: int, how: Callable[[Waiter], None], times: int) -> None:
        if self.waiting:
            number = sorted(self.waiting)[tenths % len(self.waiting)]
            waiter = self.waiting.pop(number)[0]
            how(waiter)
            assert self.woken[number] == times
            # What comes too late changes nothing.
            waiter.cancel()
            assert not self.waiters.remove(waiter)

    def are_gone(self, numbers: list[int]) -> None:
        for number in numbers:
            assert self.woken[number] == 1
            del self.waiting[number]


@settings(deadline=None)
@given(STEPS)
def test_each_is_woken_once_by_the_end_of_its_job_or_when_its_time_is_up(steps: list[tuple[str, int, int]]) -> None:
    async def test(clock: Jumping) -> None:
        crowd = Crowd(clock)
        for step, sequence, tenths in steps:
            await getattr(crowd, step)(sequence, tenths)
            assert len(crowd.waiters) == len(crowd.waiting)
        await crowd.pass_time(0, 40)
        assert (len(crowd.waiters), crowd.waiting) == (0, {})
        assert max(crowd.woken, default=0) <= 1

    virtual_time.run(test)


def test_nobody_is_woken_before_the_time_is_up_nor_much_later() -> None:
    async def test(clock: Jumping) -> None:
        waiters, begun, seen = Waiters(), clock.now, list[float]()
        for tenths in range(1, 50):
            waiters.add(tenths, tenths / 20, lambda: seen.append(clock.now - begun))
            await asyncio.sleep(0)
        await asyncio.sleep(10)
        assert len(seen) == 49
        assert all(n / 20 <= at <= n / 20 + 2 * SLOT_S for n, at in enumerate(seen, start=1))
        assert len(waiters) == 0

    virtual_time.run(test)


def test_the_wheel_turns_only_while_somebody_waits() -> None:
    async def test(clock: Jumping) -> None:
        waiters, begun = Waiters(), clock.waits
        for sequence in range(100):
            waiters.add(sequence, 1.0, lambda: None)
        await asyncio.sleep(1000)
        assert len(waiters) == 0
        # One timer for all of them, a dozen times; and the sleep of this test.
        assert 10 <= clock.waits - begun <= 14
        waiters.add(1, 0.0, lambda: None)
        await asyncio.sleep(1)
        assert len(waiters) == 0

    virtual_time.run(test)


def test_who_is_cancelled_by_one_that_is_woken_before_is_not_woken() -> None:
    async def test(_: Jumping) -> None:
        waiters, woken = Waiters(), list[str]()
        first = waiters.add(1, 5.0, lambda: woken.append("first"))
        waiters.add(1, 5.0, lambda: (woken.append("last"), first.cancel()))  # type: ignore[func-returns-value]
        waiters.ended(1)
        await asyncio.sleep(0)
        assert (woken, len(waiters)) == (["last"], 0)

    virtual_time.run(test)


def test_a_job_is_told_as_it_is_when_it_is_asked_for() -> None:
    async def test(_: Jumping) -> None:
        waiters, woken = Waiters(), list[int]()
        known = bare(State.RUNNING, 7, b"seven")
        later = Finished(waiters, known.sequence, 5.0, lambda sequence: bare(State.FAILED, sequence, known.id))
        # Nobody waits before ``when_known``.
        later.hurry()
        later.cancel()
        assert len(waiters) == 0
        later.when_known(lambda: woken.append(1))
        waiters.ended(8)
        assert woken == []
        waiters.ended(7)
        assert woken == [1]
        assert (later.value().state, later.value().id) == (State.FAILED, b"seven")
        later = Finished(waiters, known.sequence, 5.0, lambda _: known)
        later.when_known(lambda: woken.append(2))
        later.cancel()
        later = Finished(waiters, known.sequence, 5.0, lambda _: known)
        later.when_known(lambda: woken.append(3))
        later.hurry()
        assert (woken, later.value(), len(waiters)) == ([1, 3], known, 0)

    virtual_time.run(test)


class Batch:
    """Three jobs that run, and who waits for them."""

    def __init__(self, seconds: float) -> None:
        self.board = Board(Retention.same(9, 60.0), 9)
        self.waiters = Waiters()
        self.batches = Batches(self.board, Outcomes(self.board), Ids(), lambda *_: 1)
        for _ in range(3):
            sequence = self.board.open(State.QUEUED, lambda number: number, 0, 5, 1.0)
            self.board.move(sequence, State.RUNNING, 1.0)
        self.woken = 0
        self.status = self.batches.status(1, 3, 1.0)
        self.later = BatchFinished(self.batches, self.waiters, self.status, seconds, self.again)
        self.later.when_known(self.wake)

    def wake(self) -> None:
        self.woken += 1

    def again(self, before: BatchStatus) -> BatchStatus:
        return self.batches.status(before.first, before.count, 1.0)

    def end(self, sequence: int) -> None:
        self.board.move(sequence, State.SUCCEEDED, 2.0)
        self.waiters.ended(sequence)


def test_a_batch_is_waited_for_in_one_place_until_its_last_job_ends() -> None:
    async def test(_: Jumping) -> None:
        for order in ((1, 2, 3), (3, 2, 1), (2, 3, 1)):
            batch = Batch(5.0)
            for number, sequence in enumerate(order):
                assert (batch.woken, len(batch.waiters)) == (0, 1)
                batch.end(sequence)
                assert batch.later.value().pending == 2 - number
            assert (batch.woken, len(batch.waiters)) == (1, 0)

    virtual_time.run(test)


def test_the_time_for_a_batch_is_counted_from_the_beginning() -> None:
    async def test(clock: Jumping) -> None:
        batch, begun = Batch(1.0), clock.now
        await asyncio.sleep(0.7)
        batch.end(3)
        assert (batch.woken, len(batch.waiters)) == (0, 1)
        await asyncio.sleep(0.29)
        assert (batch.woken, len(batch.waiters)) == (0, 1)
        await asyncio.sleep(2 * SLOT_S)
        assert batch.woken == 1
        assert clock.now - begun < 1.0 + 2 * SLOT_S
        assert (batch.later.value().pending, len(batch.waiters)) == (2, 0)

    virtual_time.run(test)


def test_who_waits_for_a_batch_is_hurried_released_or_gone() -> None:
    async def test(_: Jumping) -> None:
        batch = Batch(5.0)
        batch.end(3)
        batch.later.hurry()
        assert (batch.woken, len(batch.waiters)) == (1, 0)
        batch = Batch(5.0)
        batch.waiters.release()
        assert (batch.woken, len(batch.waiters)) == (1, 0)
        batch = Batch(5.0)
        batch.end(3)
        batch.later.cancel()
        assert len(batch.waiters) == 0
        batch.end(2)
        batch.end(1)
        await asyncio.sleep(9)
        assert batch.woken == 0

    virtual_time.run(test)
