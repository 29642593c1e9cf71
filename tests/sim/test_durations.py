"""Durations against a sorted list."""

import tracemalloc

import pytest
from headway.sim.durations import BUCKETS, LONGEST_BITS, Durations
from hypothesis import given
from hypothesis import strategies as st

microseconds = (
    st.integers(0, 10**10) | st.integers(0, 300) | st.sampled_from([2**n + d for n in range(36) for d in (-1, 0)])
)


def filled(values: list[int]) -> Durations:
    durations = Durations()
    for value in values:
        # A half more, so that seconds do not fall below a whole microsecond when they are made whole again.
        durations.record((value + 0.5) / 1e6)
    return durations


@given(st.lists(microseconds, min_size=1), st.sampled_from([1, 50, 90, 95, 99, 99.9, 100]))
def test_percentiles_are_within_a_64th(values: list[int], percent: float) -> None:
    rank = max(1, -int(-len(values) * percent // 100))
    true = sorted(values)[rank - 1]
    told = filled(values).percentile_s(percent) * 1e6
    assert true <= told <= true + 1.001 + true / 64


@given(st.lists(microseconds), st.lists(microseconds))
def test_adding_is_recording_both(some: list[int], others: list[int]) -> None:
    added = filled(some)
    added.add(filled(others))
    assert added.in_ms() == pytest.approx(filled(some + others).in_ms(), abs=0.002)


def test_memory_is_bounded_and_the_longest_counts() -> None:
    longest = (1 << LONGEST_BITS) - 1
    durations = filled([longest])
    tracemalloc.start()
    for value in (longest, longest * 1000, 2**80):
        durations.record(value / 1e6)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert durations.count == 4
    assert durations.percentile_s(1) >= longest / 1e6
    assert grown < BUCKETS


def test_nothing_recorded_is_nothing() -> None:
    assert Durations().in_ms() == {"count": 0, "mean": 0, "p50": 0, "p95": 0, "p99": 0, "max": 0}


def test_a_negative_duration_counts_as_none() -> None:
    durations = Durations()
    durations.record(-0.001)
    assert durations.count == 1


def test_cleared_is_empty() -> None:
    durations = filled([1, 2, 3])
    durations.clear()
    assert durations.in_ms() == Durations().in_ms()
    assert durations.percentile_s(50) == 0
