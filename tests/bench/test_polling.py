"""The polling bench: what it reads out of a run, what it says of it, and each real part for a second or two."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.measure import ROOT, BenchError
from bench.polling import calibrate, crowd, restart, summary
from bench.polling.crowd import Measured, Run
from bench.polling.foresight import BURST, RESTARTED, SAMPLED, Finding
from bench.polling.restart import Return, returns
from bench.polling.scenario import Costs
from bench.polling.starts import DEPLOY, FIRST, Start
from bench.polling.summary import Findings

pytestmark = pytest.mark.long

GOOD = Measured(
    policy="when-told",
    jobs=100,
    polls_per_job=1.5,
    delay_ms=(100.0, 400.0),
    cpu_us_per_job=200.0,
    polls_served_per_job=1.5,
    utilisation=0.1,
    queue=0.5,
    noise=0.0,
)
PAPER = Finding(
    name="as measured",
    policy="when-told",
    clients=10,
    polls_per_job=1.4,
    delay_ms=(104.0, 350.0),
    utilisation=0.11,
    peak=0.2,
    simulated_s=9.0,
    over=False,
    took_s=0.1,
)
needs_cores = pytest.mark.skipif(
    not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2,
    reason="the benches pin server and crowd to a core each, and read /proc",
)


def test_a_trace_tells_polls_and_when_clients_knew(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(
        "100.5 0.001 POST /jobs 202\n"
        "101.0 0.001 HEAD /jobs/a 202\n"
        "101.5 0.001 HEAD /jobs/b reset\n"
        "102.0 0.500 HEAD /jobs/a 200\n"
        "103.0 0.001 HEAD /jobs/b 200\n"
        "103.5 0.001 HEAD /jobs/c 202\n"
        "109.0 0.001 HEAD /jobs/d 200\n"
    )
    answers = list(crowd.lines(tmp_path / "trace"))
    assert (answers[3].came, answers[3].took, answers[3].outcome) == (102.0, 0.5, "200")
    watched = crowd.watched_of(answers[1:], 101.0, 105.0)
    assert {target: (one.polls, one.known) for target, one in watched.items()} == {
        "/jobs/a": (2, 102.0),
        "/jobs/b": (2, 103.0),
    }


@needs_cores
@pytest.mark.parametrize(("policy", "polls"), [("wait", 1), ("batch", 1 / 3)])
def test_a_crowd_is_measured(policy: str, polls: float, tmp_path: Path) -> None:
    run = Run(clients=20, warm_up=1.0, seconds=1.0, spread=0.1, job_seconds=(0.05, 0.1))
    one = crowd.measure(policy, run, tmp_path)
    assert one.jobs >= 10
    assert one.polls_per_job == pytest.approx(polls)
    # A stamp of the server's is cut to a millisecond.
    assert 0 <= one.delay_ms[0] < one.delay_ms[1] < 500
    assert 0 < one.queue <= 1
    assert one.cpu_us_per_job > 0
    assert list(tmp_path.iterdir()) == []


@needs_cores
def test_a_restart_is_measured(tmp_path: Path) -> None:
    back = restart.measure(40, tmp_path)
    assert back.clients == 40
    assert 0 < back.seconds < 5
    assert list(tmp_path.iterdir()) == []


@needs_cores
def test_a_crowd_that_cannot_be_is_told(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"the crowd \(often\) died .*poll: 'often' is not allowed"):
        crowd.measure("often", Run(clients=1, warm_up=2.0, seconds=1.0), tmp_path)


def test_those_who_come_evenly_have_no_peak_and_those_who_come_at_once_have_one() -> None:
    evenly = [number / 1000 for number in range(10_000)]
    assert returns(evenly, 10_000).ratio == pytest.approx(1, abs=0.05)
    half_at_once = sorted([*evenly, *([5.0] * 10_000)])
    assert returns(half_at_once, 20_000).ratio > 5
    # A few who are very late do not make the mean small.
    assert returns([*evenly, 1000.0], 10_001).ratio == pytest.approx(1, abs=0.05)


def test_those_who_do_not_come_back_are_told() -> None:
    with pytest.raises(BenchError, match="only 1 of 10 clients came back"):
        returns([1.0], 10)


POLLS = {"1s": 25.0, "when-told": 1.5, "retry-after": 1.4, "wait": 1.0, "batch-told": 0.5, "batch": 0.33}


def spent(policy: str, costs: Costs) -> Measured:
    """What a policy costs where a batch is of three jobs."""
    polls = POLLS[policy]
    asking = polls * (costs.held if policy in calibrate.HOLDING else costs.poll)
    total = costs.post / (3 if policy.startswith("batch") else 1) + asking + costs.job
    return replace(GOOD, policy=policy, polls_served_per_job=polls, cpu_us_per_job=1e6 * total)


def test_costs_are_those_that_account_for_what_was_measured() -> None:
    costs = Costs(post=120e-6, poll=40e-6, held=200e-6, job=800e-6)
    found = Findings([spent(policy, costs) for policy in POLLS]).fit()
    assert found is not None
    assert (found.post, found.poll, found.held, found.job) == pytest.approx((120e-6, 40e-6, 200e-6, 800e-6))


def test_no_cost_is_negative_and_no_request_costs_less_than_a_poll() -> None:
    """Batches that cost more than single jobs, and answers that are held for less than a poll costs: noise."""
    costs = Costs(post=-90e-6, poll=40e-6, held=-10e-6, job=900e-6)
    found = Findings([spent(policy, costs) for policy in POLLS]).fit()
    assert found is not None
    assert found.post == found.poll == found.held > 0
    assert found.job > 0


def test_costs_are_told_apart_as_far_as_was_measured() -> None:
    costs = Costs(post=440e-6, poll=40e-6, held=1.0, job=400e-6)
    found = Findings([spent(policy, costs) for policy in ("1s", "when-told")]).fit()
    assert found is not None
    assert (found.post, found.poll, found.job) == pytest.approx((440e-6, 40e-6, 400e-6))
    assert Findings([GOOD]).fit() is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Findings([replace(GOOD, polls_per_job=1.7)]), "FAIL: when-told: 1.70 polls per job, at most 1.6"),
        (Findings([replace(GOOD, delay_ms=(151.0, 400.0))]), "FAIL: when-told: known after p50 151.0 ms, at most 150"),
        (Findings([replace(GOOD, policy="retry-after", polls_per_job=2.1)]), "FAIL: retry-after: 2.10"),
        (Findings([replace(GOOD, policy="wait", delay_ms=(1.0, 21.0))]), "FAIL: wait: known after p99 21.0 ms"),
        (Findings([replace(GOOD, policy="batch-told", polls_per_job=0.7)]), "FAIL: batch-told: 0.70"),
        (
            Findings([GOOD], [replace(GOOD, policy="1s", cpu_us_per_job=500.0), GOOD]),
            "FAIL: when-told: 2.5 times less CPU",
        ),
        (
            Findings(starts=[Start(name=FIRST, jobs=900, polls_per_job=2.3)]),
            "FAIL: a first start: 2.30 polls per job in the first 20 s, at most 2.2",
        ),
        (
            Findings(settled=False, starts=[Start(name=DEPLOY, jobs=900, polls_per_job=1.7)]),
            "FAIL: a deploy: 1.70 polls per job",
        ),
        (Findings(back=Return(clients=1, seconds=1.0, peak=2.0, mean=1.0)), "FAIL: restart: a peak of 2.00 times"),
        (
            Findings(
                foreseen=[replace(PAPER, name=RESTARTED, back=Return(clients=9, seconds=1.0, peak=2.5, mean=1.0))]
            ),
            "FAIL: restart on paper, 10 held: a peak of 2.50",
        ),
        (
            Findings(foreseen=[replace(PAPER, name=BURST), replace(PAPER, name=SAMPLED, each=10, utilisation=0.2)]),
            "FAIL: a sampled crowd is within 15% (or 100 ms) of the whole: 1 figures are not",
        ),
        (
            Findings(
                back=Return(clients=10, seconds=5.0, peak=2.0, mean=2.0),
                modelled=[replace(PAPER, back=Return(clients=10, seconds=6.0, peak=2.0, mean=2.0))],
            ),
            "FAIL: the model is within 15% (or 5 ms): 1 figures are not",
        ),
        (
            Findings([GOOD], costs=Costs(post=1, poll=1, held=1, job=1), modelled=[replace(PAPER, polls_per_job=2.0)]),
            "FAIL: the model is within 15% (or 5 ms): 1 figures are not",
        ),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_must_hold_is_held(wrong: Findings, said: str) -> None:
    lines, good = summary.verdicts(wrong)
    assert not good
    assert [line for line in lines if line.startswith(said)] != []


def test_what_holds_passes() -> None:
    both = [replace(GOOD, policy="1s", cpu_us_per_job=900.0), GOOD]
    findings = Findings(both, both)
    findings.fit()
    findings.modelled.append(PAPER)
    lines, good = summary.verdicts(findings)
    assert good, lines
    assert len(lines) == 4


def test_what_a_short_run_cannot_tell_is_not_judged() -> None:
    bad = replace(GOOD, polls_per_job=2.5, delay_ms=(900.0, 4000.0))
    back = Return(clients=2000, seconds=1.0, peak=2.0, mean=1.0)
    lines, good = summary.verdicts(Findings([bad], settled=False, back=back))
    assert good
    assert len(lines) == 3
    assert all(line.startswith("not judged") for line in lines)


def test_the_page_gets_what_was_found_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "polling.md"
    page.write_text(f"before\n{summary.BEGIN}\nstale\n{summary.END}\nafter\n")
    summary.publish(page, summary.text(Findings([GOOD]), ["PASS: all"], {"date": "today"}))
    said = page.read_text()
    assert said.startswith(f"before\n{summary.BEGIN}\n\n| policy |")
    assert said.endswith(f"- date: today\n\n{summary.END}\nafter\n")
    assert "| when-told | 1.50 | 100.0 | 400.0 | 200 | - | 100 | 50% |" in said
    assert "stale" not in said


def test_the_page_has_no_wide_lines_but_in_tables() -> None:
    said = summary.text(Findings([GOOD]), ["PASS: " + "words " * 50], {"date": "today " * 50}).splitlines()
    assert max(len(line) for line in said if not line.startswith("|")) <= summary.WIDTH
    assert " ".join(" ".join(said).split()).count("words words") == 25


def test_the_page_has_its_marks() -> None:
    page = (ROOT / "docs" / "polling.md").read_text()
    assert page.index(summary.BEGIN) < page.index(summary.END)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "99999"], "--port 99999: expected 0 to 65535"),
        (["--clients", "0"], "clients and seconds are above 0"),
        (["--policies", "often"], "invalid choice: 'often'"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(options: list[str], said: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "bench.polling", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode in (1, 2)
    assert said in ran.stderr.splitlines()[-1]
