"""Minutes of the history: made of parts, and read as quantiles."""

from __future__ import annotations

import pytest
from headway.core.history import Minute, decode_minute, encode_minute, grown, quantile, together
from headway.core.stats import SECONDS_BOUNDS, Histogram


def buckets(*seconds: float) -> tuple[int, ...]:
    """Return the buckets of these values."""
    histogram = Histogram()
    for value in seconds:
        histogram.add(value)
    return tuple(histogram.buckets)


def test_parts_of_a_minute_are_one_minute() -> None:
    parts = [
        Minute(7, succeeded=3, failed=1, retries=2, waiting=5, running=4, run=buckets(0.1), tasks={"a": (4, 1)}),
        Minute(6, cancelled=2),
        Minute(7, succeeded=1, waiting=1, running=6, run=buckets(0.1, 9), tasks={"a": (1, 0), "b": (2, 2)}),
    ]
    first, second = together(parts)
    assert first == Minute(6, cancelled=2)
    assert second == Minute(
        7,
        succeeded=4,
        failed=1,
        retries=2,
        waiting=5,
        running=6,
        run=buckets(0.1, 0.1, 9),
        tasks={"a": (5, 1), "b": (2, 2)},
    )
    assert decode_minute(encode_minute(second)) == second


def test_what_has_not_grown_is_nothing() -> None:
    assert grown((1, 2), (1, 2)) == ()
    assert grown((1, 2), (1, 5)) == (0, 3)


def test_a_quantile_lies_within_its_bucket() -> None:
    assert quantile((), 0.5) is None
    assert quantile(buckets(), 0.5) is None
    # All of one bucket: values are taken to lie evenly in it.
    assert quantile(buckets(*[0.2] * 10), 0.5) == pytest.approx(0.175)
    assert quantile(buckets(*[0.2] * 10), 1.0) == 0.25
    two_kinds = buckets(*[0.002] * 95, *[40.0] * 5)
    # Of those between 1 and 2.5 ms, and of those between 30 and 60 s.
    assert quantile(two_kinds, 0.5) == pytest.approx(0.001 + 0.0015 * 50 / 95)
    assert quantile(two_kinds, 0.96) == pytest.approx(36.0)
    # No bound says how long they were.
    assert quantile(buckets(1e6), 0.5) == SECONDS_BOUNDS[-1]
