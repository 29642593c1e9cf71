"""The crowd on paper: its parts against plain ones, and runs whose outcome is known."""

import heapq
from dataclasses import replace

import numpy as np
import pytest
from headway.core.retry_after.pace import SLOTS_PER_S
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.polling import foresight
from bench.polling.agenda import Agenda
from bench.polling.model import NETWORK_S, run
from bench.polling.runtimes import RunTimes
from bench.polling.scenario import Costs, Outcome, Restart, Scenario
from bench.polling.server import Server

pytestmark = pytest.mark.long

CHEAP = Costs(post=1e-6, poll=1e-6, held=1e-6, job=1e-6)


def scenario(policy: str, **changes: object) -> Scenario:
    small: dict[str, object] = {"clients": 100, "workers": 32, "costs": CHEAP, "step": 0.02}
    return Scenario(policy=policy, **small | changes)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 150)), max_size=40))
def test_an_agenda_gives_everything_once_and_in_order(added: list[tuple[float, int]]) -> None:
    """``added``: a time, and the step in which it is added; what is past by then comes in that step."""
    step = 0.1
    agenda, expected = Agenda(step), [list[float]() for _ in range(201)]
    for now, due in enumerate(expected):
        new = [when for when, at in added if at == now]
        for when in new:
            expected[max(int(when / step), now)].append(when)
        # What an item is does not matter to an agenda: here, its time again.
        agenda.add(np.array(new), np.array(new).view(np.int64))
        times, items = agenda.take()
        assert times.tolist() == items.view(np.float64).tolist() == sorted(due)


def served(submitted: list[float], takes: list[float], workers: int) -> list[float]:
    """When each job ends that is served first come, first served."""
    free = [0.0] * workers
    ends = []
    for at, seconds in zip(submitted, takes, strict=True):
        end = max(heapq.heappop(free), at) + seconds
        heapq.heappush(free, end)
        ends.append(end)
    return ends


def test_jobs_end_when_workers_served_in_turn_would_end_them() -> None:
    """With jobs of one length nothing depends on chance: as one line of jobs and a heap of workers has it."""
    given = scenario("wait", clients=300, jobs=1, workers=7, job_seconds=(2.0, 2.0), spread=5.0)
    submitted = np.linspace(0.0, given.spread, given.clients).tolist()
    outcome = run(given)
    assert outcome.seconds == pytest.approx(max(served(submitted, [2.0] * 300, 7)), abs=2 * given.step)
    assert outcome.jobs == 300


@pytest.mark.parametrize(("policy", "polls"), [("wait", 1), ("batch", 1 / 3)])
def test_who_waits_asks_once_and_knows_at_once(policy: str, polls: float) -> None:
    outcome = run(scenario(policy))
    assert outcome.polls_per_job == pytest.approx(polls)
    assert outcome.delay_s(50, 99) == pytest.approx([NETWORK_S] * 2)


def test_who_waits_for_longer_than_answers_are_held_asks_again() -> None:
    outcome = run(scenario("wait", clients=10, jobs=1, workers=10, job_seconds=(70.0, 70.0)))
    assert outcome.polls_per_job == 3


def test_an_interval_costs_a_poll_for_each_that_passes() -> None:
    """A job of 3.5 s that is asked for each second is asked for four times, and known half a second late."""
    outcome = run(scenario("1s", clients=50, jobs=1, workers=50, job_seconds=(3.5, 3.5)))
    assert outcome.polls_per_job == 4
    assert outcome.delay_s(50)[0] == pytest.approx(0.5, abs=0.05)


def test_every_job_is_over_and_counted_once_whatever_befalls() -> None:
    for policy in ("1s", "when-told", "retry-after", "wait", "batch-told", "batch"):
        outcome = run(scenario(policy, restart=Restart(at=3.0, gone=1.0), slow=(4.0, 6.0, 3.0)))
        assert outcome.jobs == 300, policy
        assert len(np.concatenate(outcome.returns)) > 0, policy


def test_a_slow_consumer_makes_it_longer() -> None:
    assert run(scenario("wait", slow=(2.0, 20.0, 5.0))).seconds > 1.5 * run(scenario("wait")).seconds


def test_a_server_that_is_too_slow_works_all_the_time_and_answers_late() -> None:
    """300 polls a second at 8 ms each are more than it can do."""
    outcome = run(scenario("1s", costs=Costs(post=1e-4, poll=8e-3, held=8e-3, job=1e-4), until=20.0, workers=10))
    assert outcome.utilisation > 0.95
    assert max(outcome.work.values()) < 1.01


def test_whole_seconds_are_told_later_than_milliseconds() -> None:
    exact, whole = run(scenario("when-told")), run(scenario("retry-after"))
    assert whole.polls_per_job < exact.polls_per_job
    assert whole.delay_s(50)[0] > exact.delay_s(50)[0]


def test_clients_that_begin_again_keep_the_queue_as_it_is() -> None:
    outcome = run(scenario("wait", again=True, since=20.0, until=60.0))
    mean_s = 2.75
    assert outcome.jobs / outcome.seconds == pytest.approx(32 / mean_s, rel=0.1)
    # Of 300 jobs, 32 run, and some are over while their client waits for others.
    assert 150 < outcome.waiting < 300 - 32


def test_the_same_seed_is_the_same_run() -> None:
    first, second = run(scenario("when-told")), run(scenario("when-told"))
    assert (first.polls, first.seconds) == (second.polls, second.seconds)
    assert run(scenario("when-told", seed=2)).polls != first.polls


@pytest.fixture(scope="module", params=["when-told", "wait"])
def whole(request: pytest.FixtureRequest) -> tuple[Scenario, Outcome]:
    """A crowd of 15,000, with costs that keep the server busy."""
    costs = Costs(post=1e-4, poll=5e-5, held=2e-4, job=8e-4)
    crowd = foresight.crowd_of(15_000, request.param, costs, step=0.1)
    return crowd, run(crowd)


def test_a_sampled_crowd_fares_as_the_whole(whole: tuple[Scenario, Outcome]) -> None:
    """Anything that does not scale, workers, costs, promises or what the server learns, shows in one of these."""
    crowd, expected = whole
    sampled = crowd.sampled(10)
    assert (sampled.clients, sampled.each) == (1_500, 10)
    found = run(sampled)
    assert found.jobs * 10 == expected.jobs
    assert found.polls_per_job == pytest.approx(expected.polls_per_job, rel=0.08)
    assert found.utilisation == pytest.approx(expected.utilisation, rel=0.05)
    assert found.seconds == pytest.approx(expected.seconds, rel=0.03)
    assert found.waiting * 10 == pytest.approx(expected.waiting, rel=0.05)
    assert found.delay_s(50, 99) == pytest.approx(expected.delay_s(50, 99), rel=0.3, abs=0.05)


@pytest.mark.parametrize("each", [1, 4, 49])
def test_run_times_are_evenly_spread_and_their_sums_known_as_for_all(each: int) -> None:
    given = scenario("wait", job_seconds=(1.0, 3.0)).sampled(each)
    drawn = RunTimes(given, np.random.default_rng(1)).draw(np.zeros(105 * 500))
    assert drawn.mean() == pytest.approx(2, rel=0.01)
    assert drawn.std() == pytest.approx(2 / 12**0.5, rel=0.02)
    means = drawn.reshape(500, 105).mean(axis=1)
    assert means.std() == pytest.approx(2 / 12**0.5 / (105 * each) ** 0.5, rel=0.15)


def test_the_jobs_of_a_batch_in_a_sampled_crowd_are_as_unlike_as_chance_has_it() -> None:
    given = scenario("batch-told", each=9, job_seconds=(0.0, 1.0))
    batches = RunTimes(given, np.random.default_rng(1)).draw(np.zeros(3 * 20_000)).reshape(-1, 3)
    # Of three parts, one each, the longest would be 0.833 in the mean.
    assert batches.max(axis=1).mean() == pytest.approx(0.75, abs=0.005)


def test_a_server_takes_its_own_timers_before_a_long_line() -> None:
    server = Server(np.array([0.125, 0.0, 0.125]), own=1, each=1, since=0.0, turn_s=1.0)
    times, kinds = np.linspace(0.0, 0.9, 30), np.zeros(30, np.int64)
    server.add(times, kinds, np.arange(30))
    assert [len(part) for part in server.work(1.0)] == [8] * 4
    server.add(np.array([1.9]), np.array([2]), np.array([99]))
    server.work(2.0)
    server.add(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
    assert server.work(3.0)[3].tolist()[0] == 99
    assert server.busy_s == pytest.approx(3.0)
    assert len(server.drop()[0]) == 30 + 1 - 24


def test_who_is_held_comes_back_as_evenly_as_the_server_says() -> None:
    """As measured for real: 10,000 clients within 5.9 s, 1,856 a second at most and 1,672 in the mean."""
    back = foresight.same_restart(10_000, Costs(post=1e-4, poll=5e-5, held=2e-4, job=8e-4)).back
    assert back is not None
    assert back.clients == 10_000
    assert back.mean == pytest.approx(1_672, rel=0.05)
    assert back.ratio < 1.3


def test_who_finds_nobody_counts_as_sent_away_and_comes_a_second_later() -> None:
    given = scenario("1s", restart=Restart(at=3.0, gone=2.0, drain_timeout=0.0, linger=0.0))
    came = np.concatenate(run(given).returns)
    assert 5.0 <= came.min() < 5.2
    assert came.max() < 7.0


def test_foreseen_crowds_are_as_large_as_asked_for() -> None:
    found = list(foresight.all_of(CHEAP, 100_000))
    assert {given.clients * given.each for _, given in found} == {1_000, 10_000, 100_000}
    assert len({name for name, _ in found}) == 6
    assert [given.each for name, given in found if name == foresight.SAMPLED] == [10, 10]
    large = [given for _, given in foresight.all_of(CHEAP, 10_000_000) if given.clients * given.each > 100_000]
    assert {given.clients * given.each for given in large} == {1_000_000, 10_000_000}
    assert {given.policy for given in large} == {"when-told", "batch-told"}
    # What is promised for a slot of the pace is a whole number, as it was.
    assert all((given.pace / SLOTS_PER_S).is_integer() for given in large)
    assert list(foresight.all_of(CHEAP, 0)) == []
    found_one = foresight.find("a burst", foresight.crowd_of(50, "1s", CHEAP))
    assert found_one.over
    assert found_one.polls_per_job > 1
    assert not foresight.find("cut", foresight.crowd_of(50, "1s", CHEAP, until=1.0)).over


def test_runs_under_several_seeds_are_one_long_run() -> None:
    given = scenario("when-told", until=20.0, since=5.0, again=True)
    each = [run(replace(given, seed=seed)) for seed in (1, 2)]
    both = foresight.find("both", given, seeds=2)
    assert both.polls_per_job == sum(one.polls for one in each) / sum(one.known for one in each)
    assert both.simulated_s == sum(one.seconds for one in each)
    delays = np.concatenate([delays for one in each for delays in one.delays])
    assert both.delay_ms[0] == pytest.approx(1000 * np.percentile(delays, 50))


def test_nothing_is_no_outcome() -> None:
    assert Outcome().delay_s(50) == [0]
    assert Outcome().utilisation == 0
