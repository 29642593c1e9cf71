"""The bench of a server that is offered more than it can do, and a short form of it."""

import os
import sys
from dataclasses import replace

import pytest

from bench import overload
from bench.measure import allow_files
from bench.offered import Answered, p99_ms
from bench.overload import REFUSALS, TIMES, Found, back_s, by_second, options_of

pytestmark = pytest.mark.long

GOOD = Found(
    capacity=600.0,
    offered=1800.0,
    seconds=60.0,
    codes={202: 36_000, 429: 71_000, 503: 1_000},
    accepted_p99_ms=30.0,
    refused_p99_ms=50.0,
    refused_usual_p99_ms=20.0,
    accepted=40_000,
    lost=0,
    ordinary_p99_ms=10.0,
    back_s=2.0,
    clients=15_000,
    polls_per_s=5_000.0,
    poll_p99_ms=20.0,
    poll_errors={},
    own_lag_p99_ms=1.0,
    ran=0.4,
    waited=0.1,
    dripping=2_000,
    without_ms=[10.0, 11.0, 12.0],
    beside_ms=[20.0, 22.0, 90.0],
)


def test_what_holds_passes() -> None:
    lines, good = overload.verdicts(GOOD)
    assert good
    assert all(line.startswith("PASS: ") for line in lines)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (replace(GOOD, lost=1), "all 40,000 accepted jobs succeeded, 1 did not"),
        (replace(GOOD, codes={202: 1, 0: 2}), "refusals are 429 and 503 alone: {0: 2}"),
        (replace(GOOD, refused_p99_ms=50.1), "p99 of a refusal 50.1 ms"),
        (replace(GOOD, back_s=3.0), "ordinary service 3 s after the end"),
        (replace(GOOD, polls_per_s=6_000.0), "15,000 clients ask 6,000 times a second"),
        (
            replace(GOOD, poll_errors={503: 1}),
            "15,000 clients ask 5,000 times a second, at most 5,000; errors {503: 1}",
        ),
        (replace(GOOD, beside_ms=[23.0]), "p99 beside 2,000 dripping clients 2.09 times"),
    ],
)
def test_what_does_not_hold_fails(found: Found, said: str) -> None:
    lines, good = overload.verdicts(found)
    assert not good
    (line,) = [line for line in lines if line.startswith("FAIL: ")]
    assert said in line


def test_service_is_back_in_the_first_second_without_a_refusal_or_a_long_answer() -> None:
    answered = [Answered(10.0 + at / 10, 202, 0.001) for at in range(40)]
    assert back_s(answered, 10.0, 4, 50.0) == 0
    assert back_s([*answered, Answered(10.5, 429, 0.001)], 10.0, 4, 50.0) == 1
    assert back_s([*answered, *[Answered(11.5, 202, 0.2)] * 3, Answered(10.5, 429, 0.0)], 10.0, 4, 50.0) == 2
    assert back_s([Answered(10.0 + at, 503, 0.0) for at in range(4)], 10.0, 4, 50.0) == 4


def test_refusals_are_timed_by_the_second() -> None:
    answered = [Answered(10.5, 202, 9.0), Answered(10.1, 429, 0.001), Answered(12.9, 503, 0.002)]
    assert by_second(answered, 10.0) == [1.0, 2.0]


def test_percentile_of_few_and_of_none() -> None:
    assert (p99_ms([]), p99_ms([0.002])) == (0.0, 2.0)


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2, reason="takes two cores and /proc"
)
def test_a_short_overload() -> None:
    """Times are those of the machine, which may be busy. What is accepted, refused and paced is the server's."""
    allow_files(3000)
    short = {"seconds": 6, "clients": 400, "submitters": 100, "queue": 500, "warm-up": 3, "after": 10, "round": 2}
    found = overload.measured(options_of([f"--{name}={value}" for name, value in short.items()]))
    assert found.lost == 0
    assert found.offered == pytest.approx(TIMES * found.capacity, rel=0.02)
    assert found.codes[202] + found.codes[429] == sum(found.codes.values())
    assert set(found.codes) - {202} <= REFUSALS
    assert found.codes[429] > 100
    assert found.poll_errors == {}
    assert 0 < found.polls_per_s < 2 * found.clients
    assert found.back_s < 10
    assert 0 < found.ran < 1
    # 2,000 clients drip beside an ordinary load in some rounds, and others on this machine work in all of them.
    assert min(found.beside_ms) <= 2 * max(found.without_ms)
