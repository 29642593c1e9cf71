"""The bench of how many clients one server carries."""

import os
import sys
from dataclasses import replace

import pytest

from bench import crowd
from bench.crowd import Step

pytestmark = pytest.mark.long

GOOD = Step(
    clients=1000,
    requests_per_s=3000.0,
    jobs_per_s=700.0,
    p50_ms=1.0,
    p95_ms=20.0,
    p99_ms=30.0,
    errors={},
    server=0.4,
    simulator=0.3,
)
FULL = replace(GOOD, clients=8000, p95_ms=2000.0, server=0.97)


def test_what_holds_passes() -> None:
    assert crowd.verdicts([GOOD, FULL]) == (
        [
            "PASS: no errors and no refused connection with up to 8,000 clients",
            "PASS: p95 of a poll below 60 ms where no core gives out",
            "at 8,000 clients and 3,000 requests/s the core of the server gives out; beyond that all wait longer",
        ],
        True,
    )


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (replace(FULL, errors={"timeout": 1}), "FAIL: no errors"),
        (replace(GOOD, p95_ms=60.0), "FAIL: p95 of a poll below 60 ms"),
    ],
)
def test_what_does_not_hold_fails(step: Step, said: str) -> None:
    lines, good = crowd.verdicts([GOOD, step])
    assert not good
    assert [line for line in lines if line.startswith(said)]


def test_both_cores_can_give_out() -> None:
    assert replace(FULL, simulator=0.95).gave_out == "server and simulator"


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2, reason="takes two cores and /proc"
)
def test_a_crowd_is_measured() -> None:
    step = crowd.measure(20, spread=0.5, seconds=2.0)
    assert (step.clients, step.errors) == (20, {})
    assert 0 < step.p50_ms <= step.p95_ms <= step.p99_ms < 1000
    assert step.requests_per_s > 20
    assert 0 < step.server < 1
    assert 0 < step.simulator < 1
