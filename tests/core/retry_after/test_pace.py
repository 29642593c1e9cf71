"""Promised polls: never more than can be served, and never earlier than asked for."""

import sys
import tracemalloc
from collections import Counter
from itertools import pairwise
from types import FrameType

import msgspec
import pytest
from headway.core.config import Config
from headway.core.errors import RecoveringError
from headway.core.recovering import Recovering
from headway.core.retry_after import pace as module
from headway.core.retry_after.pace import FAR_S, SLOTS, SLOTS_PER_S, Pace
from hypothesis import given
from hypothesis import strategies as st

BEGIN_S = 5000.0
# Rounding to a float of some thousand seconds.
EXACT_S = 1e-6

waits = st.one_of(st.sampled_from([0.0, 0.02, 1.0, 1.0, 1.0]), st.floats(0, 3))
# More than the slots reach, at times.
gaps = st.one_of(st.just(0.0), st.floats(0, 0.2), st.sampled_from([FAR_S, 3 * FAR_S]))


@given(st.integers(1, 4), st.lists(st.tuples(gaps, waits), max_size=200))
def test_a_promise_is_for_the_first_slot_that_has_room(most: int, asked: list[tuple[float, float]]) -> None:
    pace = Pace(most * SLOTS_PER_S)
    promised: Counter[int] = Counter()
    now = BEGIN_S
    for gap, wait in asked:
        now += gap
        told = pace.promise(now, wait)
        expected = int((now + wait) * SLOTS_PER_S)
        while promised[expected] >= most:
            expected += 1
        promised[expected] += 1
        assert told >= wait - EXACT_S
        assert expected / SLOTS_PER_S - EXACT_S <= now + told <= (expected + 1) / SLOTS_PER_S + EXACT_S


def test_a_thousand_that_are_told_at_once_come_one_after_the_other() -> None:
    pace = Pace(2000)
    come = sorted(pace.promise(BEGIN_S, 1.0) for _ in range(1000))
    assert come[0] == 1.0
    assert 1.45 < come[-1] < 1.55
    # No two at the same moment, and no more than 2,000 a second over any tenth of one.
    assert len(set(come)) == 1000
    assert all(later - earlier >= 0.098 for earlier, later in zip(come, come[200:], strict=False))


@pytest.mark.parametrize("per_second", [0.3, 1.0, 7.0, 10.0, 19.0, 30.0, 50.0, 333.0])
def test_no_more_are_promised_in_a_second_than_can_be_served_however_few_that_are(per_second: float) -> None:
    pace = Pace(per_second)
    count = int(20 * per_second) + 5
    come = sorted(pace.promise(BEGIN_S, 0.0) for _ in range(count))
    # Of the slot that has begun, as many as of a whole one.
    most = int(5 * per_second * 1.01 + per_second / SLOTS_PER_S) + 1
    assert all(later - earlier >= 5.0 for earlier, later in zip(come, come[most:], strict=False))
    assert come[-1] < (count + 1) / per_second + 1 / SLOTS_PER_S


def test_full_slots_are_stepped_over_in_a_few_steps() -> None:
    pace, calls = Pace(SLOTS_PER_S), 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename == module.__file__

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for _ in range(4000):
            pace.promise(BEGIN_S, 0.0)
    finally:
        sys.setprofile(before)
    # Each slot that is looked at is a call, and so is each promise.
    assert 4000 < calls < 4000 * 14


def test_where_all_is_promised_the_last_slot_takes_the_rest() -> None:
    pace = Pace(SLOTS_PER_S)
    told = [pace.promise(BEGIN_S, 0.0) for _ in range(SLOTS + 50)]
    assert all(later >= earlier for earlier, later in pairwise(told))
    assert told[-1] > FAR_S


def test_far_off_promises_are_spread_by_chance() -> None:
    pace = Pace(1)
    told = {pace.promise(BEGIN_S, 86_400.0) for _ in range(100)}
    assert len(told) > 90
    assert all(86_400 <= wait <= 86_400 * 1.02 for wait in told)


def test_who_comes_while_the_journal_is_read_is_told_to_come_one_after_the_other() -> None:
    recovering = Recovering(msgspec.convert({"polling": {"capacity": 100, "share": 1.0}}, Config))
    told = []
    for _ in range(300):
        with pytest.raises(RecoveringError) as error:
            recovering.peek(b"")
        told.append(error.value.retry_after_s)
    assert min(told) >= 1.0
    assert max(told) > 3.5
    assert recovering.retry_after_s() > 3.5


def test_promises_take_no_memory() -> None:
    pace = Pace(1000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for slot in range(SLOTS):
            pace.promise(1000 + slot / SLOTS_PER_S, 1.0)
        assert tracemalloc.get_traced_memory()[0] - before < 1000
    finally:
        tracemalloc.stop()
