"""The soak: what it finds, what it explains, and what it judges."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import sin

import pytest

from bench.soak import __main__ as command
from bench.soak import many, summary
from bench.soak.crowd import Member, Trouble
from bench.soak.faults import GRACE_S, Injected, unexplained
from bench.soak.sampler import Sample
from bench.soak.site import ENGINES, running_site
from bench.soak.summary import MIB, Findings, quiet
from bench.soak.trend import Point, trend
from tests.end_to_end.process import wait_until

KINDS = {
    "batch", "by events", "cancelled", "coroutine", "failing", "keyed", "large", "process", "retried", "slow",
    "thread", "waited for",
}  # fmt: skip
FAULTS = {
    "memory": {"worker killed", "dripping clients", "deploy"},
    "journal": {"worker killed", "dripping clients", "deploy", "writer killed", "disk full"},
    "valkey": {"worker killed", "dripping clients", "deploy", "store restarted"},
}


@pytest.fixture(autouse=True)
def _short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lives of the samples below are short ones."""
    monkeypatch.setattr(summary, "WARM_UP_S", 300.0)
    monkeypatch.setattr(summary, "WARM_UPS", 3)
    monkeypatch.setattr(summary, "LONG_LIFE_S", 900.0)


def points(slope: float, noise: float = 0.0, lives: int = 3) -> list[Point]:
    """An hour of samples in lives of different heights."""
    chance = random.Random(7)
    return [
        (life, at, 40.0 + 7 * (life % 2) + slope * (at - begin) / 3600 + chance.gauss(0, noise))
        for life, begin in ((life, 3600 * life // lives) for life in range(lives))
        for at in range(begin, begin + 3600 // lives, 4)
    ]


def test_a_slope_is_that_within_lives_and_its_interval_has_the_true_one() -> None:
    exact = trend(points(2.5))
    assert exact is not None
    assert exact.slope == pytest.approx(2.5)
    assert exact.most - exact.least == pytest.approx(0)
    noisy = trend(points(2.5, noise=0.5))
    assert noisy is not None
    assert noisy.least < 2.5 < noisy.most
    assert 0.1 < noisy.most - noisy.least < 3


def test_an_outlier_in_each_block_bends_no_line() -> None:
    found = [(life, at, value + (at % 30 < 15) * at) for life, at, value in points(0.0)]
    flat = trend(found)
    assert flat is not None
    assert flat.slope == pytest.approx(0)


@pytest.mark.parametrize("count", [0, 1, 14])
def test_few_samples_have_no_slope(count: int) -> None:
    assert trend(points(1.0, lives=1)[:count]) is None


def samples(
    seconds: int = 2400,
    deploys: int = 1,
    rss: Callable[[float], float] = lambda at: 50.0,
    descriptors: Callable[[float], int] = lambda at: 40,
) -> list[Sample]:
    """Looks each second at a server that is deployed evenly, with a fault in each minute."""
    return [
        Sample(
            at=float(at),
            life=at * (deploys + 1) // seconds,
            fault="writer killed" if at % 60 == 30 else "",
            rss_bytes=int(rss(at) * MIB),
            all_rss_bytes=0,
            descriptors=descriptors(at) + 50 * (at % 60 == 30),
            threads=6,
            lag_ms=0.5 + 0.1 * (at % 3),
        )
        for at in range(seconds)
    ]


def test_times_of_warm_up_and_of_faults_are_not_judged() -> None:
    found = quiet(samples())
    assert [sample.at for sample in found if sample.fault] == []
    assert min(sample.at for sample in found) >= summary.WARM_UP_S
    assert min(sample.at for sample in found if sample.life == 1) >= 1200 + summary.WARM_UP_S
    assert [sample.at for sample in found if 870 <= sample.at < 878] == [875.0, 876.0, 877.0]


def followed(seen: list[Sample] | None = None) -> Findings:
    """Findings in which all is well."""
    return Findings(samples=seen or samples(), acknowledged=Counter(coroutine=5), finished=Counter(coroutine=5))


def test_a_flat_server_passes() -> None:
    lines, good = summary.verdicts(followed())
    assert good
    assert {line.partition(":")[0] for line in lines} == {"PASS"}


def test_a_short_run_of_many_jobs_is_held_to_the_bound_of_an_hour() -> None:
    short = samples(seconds=600, deploys=0, rss=lambda at: 50 + at / 1200)
    for is_settled, said in (
        (False, "OPEN: RSS of the server, MiB: +3.0"),
        (True, "FAIL: RSS of the server, MiB: +3.0"),
    ):
        lines, good = summary.verdicts(Findings(samples=short, is_settled=is_settled))
        assert good is not is_settled
        assert [line for line in lines if line.startswith(said)]


@pytest.mark.parametrize(
    ("grown", "said"),
    [
        (samples(rss=lambda at: 50 + at / 600), "FAIL: RSS of the server, MiB: +6.0"),
        # This one grows at each deploy, and at no other time.
        (samples(seconds=9000, deploys=9, descriptors=lambda at: 40 + int(at / 900)), "FAIL: descriptors: +3.9"),
        # A short run has not reached all bounds, and is held to a looser one.
        (samples(seconds=600, rss=lambda at: 50 + at / 10), "FAIL: RSS of the server, MiB: +36"),
    ],
)
def test_growth_fails(grown: list[Sample], said: str) -> None:
    lines, good = summary.verdicts(followed(grown))
    assert not good
    (failure,) = [line for line in lines if line.startswith("FAIL")]
    assert failure.startswith(said)


def test_a_short_run_is_not_held_to_the_bound_of_an_hour() -> None:
    lines, good = summary.verdicts(followed(samples(seconds=300, rss=lambda at: 50 + at / 60)))
    assert good
    told = next(line for line in lines if "RSS" in line)
    assert told.startswith("OPEN")
    assert told.endswith("at most 8 in all, as no life took 900 s")


def test_a_slope_that_may_be_above_or_below_its_bound_is_open() -> None:
    lines, good = summary.verdicts(followed(samples(rss=lambda at: 50 + at / 3600 + sin(at / 40))))
    assert good
    assert next(line for line in lines if "RSS" in line).endswith("the run is too short to tell")


DISK = Injected("disk full", 100.0, 105.0)


@pytest.mark.parametrize(
    ("trouble", "is_explained"),
    [
        (Trouble(101, 101.1, "503 journal-full", "POST /jobs"), True),
        (Trouble(99, 100.1, "503 journal-full", "POST /jobs"), True),
        (Trouble(105 + GRACE_S / 2, 107, "503 journal-full", "POST /jobs"), True),
        (Trouble(105 + GRACE_S * 1.1, 108, "503 journal-full", "POST /jobs"), False),
        (Trouble(98, 99.9, "503 journal-full", "POST /jobs"), False),
        (Trouble(101, 101.1, "500 internal", "POST /jobs"), False),
        (Trouble(101, 101.1, "closed", "GET /stats"), False),
    ],
)
def test_an_error_is_explained_by_a_fault_of_its_moment_and_kind(trouble: Trouble, is_explained: bool) -> None:
    assert unexplained([trouble], [DISK]) == ([] if is_explained else [trouble])


GONE, FALSE = "/jobs/1 (coroutine) is 410 expired, not succeeded", "/jobs/1 (failing) is 200 succeeded, not failed"


@pytest.mark.parametrize(
    ("findings", "told"),
    [
        (replace(followed(), lost=[GONE]), GONE),
        (replace(followed(), wrong=[FALSE]), FALSE),
        (replace(followed(), failed=["deploy: not deployed"]), "deploy: not deployed"),
        (replace(followed(), troubles=[Trouble(5, 6, "500 internal", "GET /")]), "5.0 s: GET /: 500 internal"),
        (replace(followed(), finished=Counter(coroutine=4)), "of 5 jobs acknowledged, 4 were followed to the end"),
    ],
    ids=["lost", "wrong", "failed", "unexplained", "unfollowed"],
)
def test_any_harm_fails_and_is_listed(findings: Findings, told: str) -> None:
    lines, good = summary.verdicts(findings)
    assert not good
    assert len([line for line in lines if line.startswith("FAIL")]) == 1
    assert told in summary.text(findings, {"engine": "memory"})


def test_many_jobs_on_a_store_are_another_bench(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--jobs", "10", "--engine", "valkey"]) == 1
    assert "make bench-soak" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
def test_half_a_minute_under_faults_loses_nothing_and_explains_each_error(engine: str) -> None:
    findings = command.soak(engine, 30)
    assert (findings.lost, findings.wrong, findings.failed) == ([], [], [])
    assert unexplained(findings.troubles, findings.injected) == []
    assert findings.acknowledged == findings.finished
    assert set(findings.acknowledged) == KINDS
    injected = {fault.what for fault in findings.injected}
    # A disk can be mounted by root alone.
    assert injected in (FAULTS[engine], FAULTS[engine] - {"disk full"})
    assert len(findings.samples) > 20
    assert "acknowledged jobs lost" in summary.text(findings, {})


def member_of(port: int, enough: Callable[[Member], bool]) -> Member:
    """Let a member submit and ask until it has seen enough."""
    member = Member(port, 0.01)
    member.start()
    try:
        wait_until(lambda: enough(member), bool)
    finally:
        member.stop.set()
        member.join()
    return member


@pytest.mark.long
def test_a_member_sees_jobs_that_are_forgotten() -> None:
    few = {"jobs": 1, "seconds": 3600}
    with running_site("memory", {"retention__jobs": 1, "retention__failed": few, "retention__cancelled": few}) as site:
        member = member_of(site.server.port, lambda member: len(member.lost) > 3)
    assert all("410 expired, not " in line for line in member.lost)


@pytest.mark.long
def test_a_member_sees_wrong_results_and_unknown_tasks() -> None:
    with running_site("memory", {"tasks": ["tests.bench.lying_tasks"]}) as site:
        member = member_of(site.server.port, lambda member: bool(member.wrong and member.troubles))
    assert all("has b'" in line for line in member.wrong)
    assert {one.what for one in member.troubles} == {"422 unknown-task"}
    assert unexplained(member.troubles, [Injected("deploy", 0.0, time.monotonic())]) == member.troubles


@pytest.mark.long
def test_many_jobs_are_watched() -> None:
    findings = many.soak(8000, "memory")
    assert len(findings.samples) == many.LOOKS
    assert findings.samples[-1].descriptors == findings.samples[0].descriptors
