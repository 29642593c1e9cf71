"""The bench of a crowd that connects at once."""

import os
import sys
from dataclasses import replace

import pytest

from bench import connections
from bench.connections import Found

GOOD = Found(
    clients=20_000,
    answered=20_000,
    refused=0,
    opened_s=1.9,
    served_s=2.1,
    p50_ms=5.0,
    p99_ms=80.0,
    most_ms=90.0,
    cpu_us=60.0,
    idle_bytes=3700.0,
)


def test_what_holds_passes() -> None:
    lines, good = connections.verdicts(GOOD, within=2.0)
    assert good
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (replace(GOOD, answered=19_999), "20,000 clients are answered"),
        (replace(GOOD, refused=1), "20,000 clients are answered"),
        (replace(GOOD, served_s=3.1), "3.10 s after the first came"),
        (replace(GOOD, idle_bytes=6001.0), "6,001 bytes for an idle one"),
    ],
)
def test_what_does_not_hold_fails(found: Found, said: str) -> None:
    lines, good = connections.verdicts(found, within=2.0)
    assert not good
    assert [line for line in lines if line.startswith("- FAIL") and said in line]


@pytest.mark.long
@pytest.mark.skipif(
    not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2, reason="takes two cores and /proc"
)
def test_a_crowd_that_comes_at_once_is_served() -> None:
    cores = os.sched_getaffinity(0)
    try:
        found = connections.measure(800, within=0.2)
    finally:
        os.sched_setaffinity(0, cores)
    assert (found.answered, found.refused) == (800, 0)
    assert 0 < found.opened_s <= found.served_s
    assert 0 < found.p50_ms <= found.p99_ms <= found.most_ms
