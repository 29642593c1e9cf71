"""When clients have to come back."""

import random

import pytest
from headway.core.retry_after.estimate import LONGEST_S, MARGIN_S, PLACES_S, Estimate
from headway.core.retry_after.runs import CLIP, HARDLY, KEEP_EVERY_S, PRICE, RECENT, Runs, best_aim
from hypothesis import given
from hypothesis import strategies as st

WORKERS = 4
# So many polls a second that none is put off.
PLENTY = 1e9
NOW = 1000.0


def estimate(*runs: float, workers: int = WORKERS, polls_per_second: float = PLENTY) -> Estimate:
    made = Estimate(workers, 2, polls_per_second)
    learn(made, *runs)
    return made


def learn(made: Estimate, *runs: float) -> None:
    """Have ``runs`` end one after the other, the last of them NOW."""
    for index, seconds in enumerate(runs, 1):
        made.observe(0, seconds, NOW - (len(runs) - index) * KEEP_EVERY_S * 1.01)


def queued(made: Estimate, turns: int, task: int = 0) -> int:
    return made.promised_ms(made.for_queued(turns, WORKERS, 0.0, task, NOW), NOW)


def running(made: Estimate, elapsed: float, ends_in: float | None = None) -> int:
    return made.promised_ms(made.for_running(elapsed, ends_in, 0), NOW)


def test_before_the_first_job_has_ended_it_is_a_second_and_then_ever_longer() -> None:
    made = estimate()
    assert [made.for_queued(5, WORKERS, waited, 0, NOW) for waited in (0.0, 4.0, 40.0)] == [1.0, 2.0, 11.0]
    assert [running(made, elapsed) for elapsed in (0.0, 4.0, 40.0)] == [1000, 2000, 11_000]
    assert 1.0 <= made.for_delayed(0.0, 0) <= 1.1
    assert made.for_places(1, NOW) == pytest.approx(1.0)


def test_a_job_is_expected_after_those_ahead_of_it_and_its_own_run() -> None:
    made = estimate(*[2.0] * 50)
    assert queued(made, 0) == queued(made, -3) == 2020
    assert [queued(made, turns) for turns in (1, 2, 100)] == [2520, 3020, 52_020]
    # For a task of which no job has ended, the mean over all is expected.
    assert queued(made, 0, task=1) == 2020
    assert made.for_delayed(60.0, 0) == pytest.approx(62.02)


def test_of_runs_that_are_alike_the_end_is_waited_for() -> None:
    made = estimate(*[2.0, 2.01, 2.02] * 20)
    assert 2010 <= queued(made, 0) <= 2041
    assert 1000 < running(made, 1.0) <= 1041
    assert 20 <= running(made, 2.015) <= 40


def test_of_runs_that_differ_about_half_are_over_when_they_are_asked_for() -> None:
    random.seed(1)
    aims = []
    for _ in range(20):
        runs = Runs()
        for _ in range(200):
            runs.add(random.uniform(0.5, 5.0), NOW)
        aims.append(runs.aim)
    assert 2.0 < sum(aims) / len(aims) < 3.0


def test_many_that_all_have_to_be_over_are_asked_for_later() -> None:
    random.seed(1)
    made = estimate(*[random.uniform(0.5, 5.0) for _ in range(200)])
    aims = [made.for_queued(0, WORKERS, 0.0, 0, NOW, together=together) for together in (1, 3, 10, 1000)]
    assert aims == sorted(aims)
    # Of three jobs the last is finished by then less often than one alone at its own aim.
    one, three = [((aim - MARGIN_S - 0.5) / 4.5) ** count for aim, count in zip(aims, (1, 3), strict=False)]
    assert 0.6 * one < three < 0.8 * one
    assert 4.7 < aims[3] <= 5.02
    alike = estimate(*[2.0] * 64)
    assert alike.for_queued(0, WORKERS, 0.0, 0, NOW, together=9) == alike.for_queued(0, WORKERS, 0.0, 0, NOW)


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=64))
def test_the_aim_costs_hardly_more_than_the_best(runs: list[float]) -> None:
    runs.sort()
    price = PRICE * sum(runs) / len(runs)

    def cost(at: float) -> float:
        return sum(at - run if run <= at else price for run in runs)

    assert cost(best_aim(runs)) <= min(map(cost, runs)) * HARDLY * (1 + 1e-6) + 1e-9


def test_one_slow_job_changes_little() -> None:
    made = estimate(*[1.0] * 100)
    before = queued(made, 40), queued(made, 0)
    made.observe(0, 1000.0, NOW)
    assert queued(made, 0) == before[1]
    assert before[0] <= queued(made, 40) <= before[0] * (1 + RECENT * CLIP / 100)


def test_some_slow_jobs_among_many_quick_ones_are_learnt() -> None:
    random.seed(1)
    made = estimate(*[10.0 if random.random() < 0.05 else 0.01 for _ in range(3000)])
    assert 0.3 < made.mean < 0.8


def test_the_short_runs_that_end_first_are_soon_forgotten() -> None:
    random.seed(1)
    starting = [random.uniform(0.5, 1.0) for _ in range(100)]
    made = estimate(*starting, *[random.uniform(0.5, 5.0) for _ in range(400)])
    assert made.mean == pytest.approx(2.75, rel=0.1)


def test_run_times_that_changed_are_learnt() -> None:
    random.seed(1)
    made = estimate(*[1.0] * 200)
    learn(made, *[3.0] * 1000)
    assert 2900 < queued(made, 0) <= 3020
    assert 2.8 < made.mean <= 3.0


def test_of_many_that_end_at_once_one_is_kept() -> None:
    made = estimate(*[1.0] * 300)
    for _ in range(10_000):
        made.observe(0, 5.0, NOW + KEEP_EVERY_S / 2)
    assert queued(made, 0) == queued(estimate(*[1.0] * 300), 0)


def test_a_job_that_has_outrun_all_others_is_asked_for_ever_more_rarely() -> None:
    made = estimate(*[1.0] * 50)
    assert [running(made, elapsed) for elapsed in (1.0, 4.0, 400.0)] == [250, 1000, 100_000]
    assert running(made, 1e9) == LONGEST_S * 1000


def test_while_nothing_moves_those_who_wait_are_told_to_wait_longer() -> None:
    made = estimate(*[1.0] * 50)
    told = [made.for_queued(8, WORKERS, still, 0, NOW + still) for still in (0.0, 1.9, 10.0, 100.0)]
    assert told == pytest.approx([3.02, 3.02, 11.02, 101.02])
    # One that has just come has not seen it: the server may have been idle.
    assert made.for_queued(8, WORKERS, 0.0, 0, NOW + 100) == pytest.approx(3.02)
    made.began(0, NOW + 100)
    assert made.for_queued(8, WORKERS, 100.0, 0, NOW + 100) == pytest.approx(3.02)


def test_a_job_that_reports_its_progress_is_asked_for_just_after_its_end() -> None:
    made = estimate(*[1.0] * 50)
    assert 4000 < running(made, 1.0, ends_in=4.0) <= 4150
    # A little late. Much later than its report, which counts for nothing then.
    assert running(made, 5.1, ends_in=-0.1) == 120
    assert running(made, 10.0, ends_in=-5.0) == running(made, 10.0) == 2500


@given(
    st.lists(st.floats(0, 1e5), max_size=70),
    st.integers(-5, 10_000),
    st.floats(0, 1e6),
    st.one_of(st.none(), st.floats(-1e5, 1e5)),
)
def test_whatever_is_known_the_answer_is_within_bounds(
    runs: list[float], turns: int, elapsed: float, ends_in: float | None
) -> None:
    made = estimate(*runs)
    for told in (
        made.promised_ms(made.for_queued(turns, WORKERS, elapsed, 0, NOW + elapsed), NOW),
        made.promised_ms(made.for_queued(turns, 1, elapsed, 1, NOW, together=3), NOW),
        running(made, elapsed, ends_in),
    ):
        assert 20 <= told <= LONGEST_S * 1000
    assert 1.0 <= made.for_places(turns + 6, NOW) <= PLACES_S + 1


def test_who_is_turned_away_is_promised_a_place_of_his_own() -> None:
    made = estimate(*[4.0] * 50)
    told = [made.for_places(1, NOW) for _ in range(100)]
    # A place is free each second.
    assert [round(wait) for wait in told[:59]] == list(range(1, 60))
    assert told[99] == pytest.approx(PLACES_S, abs=0.1)
    assert made.for_places(1, NOW + 70.0) == 1.0


def test_all_that_is_told_together_stays_below_what_can_be_served() -> None:
    made = estimate(*[1.0] * 50, polls_per_second=100)
    told = [queued(made, 0) for _ in range(200)] + [running(made, 0.0) for _ in range(200)]
    told += [int(made.later(1.0, NOW) * 1000) for _ in range(100)]
    # In any second from the first on.
    for begin in range(1000, 6000, 50):
        assert sum(begin <= wait < begin + 1000 for wait in told) <= 110
    assert 5900 < max(told) < 6100
