"""The crowd on paper: its parts against plain ones, and runs whose outcome is known."""

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.polling import foresight
from bench.polling.agenda import Agenda
from bench.polling.model import NETWORK_S, run
from bench.polling.scenario import Costs, Outcome, Scenario

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
        outcome = run(scenario(policy, restart=(3.0, 1.0), slow=(4.0, 6.0, 3.0)))
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


def test_foreseen_crowds_are_as_large_as_asked_for() -> None:
    names = [(given.clients, name) for name, given in foresight.all_of(CHEAP, 10_000)]
    assert {clients for clients, _ in names} == {1_000, 10_000}
    assert len({name for _, name in names}) == 4
    assert list(foresight.all_of(CHEAP, 0)) == []
    found = foresight.find("a burst", foresight.crowd_of(50, "1s", CHEAP))
    assert found.over
    assert found.polls_per_job > 1
    assert not foresight.find("cut", foresight.crowd_of(50, "1s", CHEAP, until=1.0)).over


def test_nothing_is_no_outcome() -> None:
    assert Outcome().delay_s(50) == [0]
    assert Outcome().utilisation == 0
