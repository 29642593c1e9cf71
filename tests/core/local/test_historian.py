"""The history as an engine writes it: a minute at a time, by the clock of the day."""

from __future__ import annotations

from headway.core.history import KEPT, MINUTE_S, TASKS_MOST, Minute
from headway.core.job import State
from headway.core.local.historian import Historian
from headway.core.stats import Histogram, Stats


class Counted:
    """What a historian reads of the active jobs."""

    def __init__(self, tasks: int) -> None:
        self.stats = Stats(tasks)
        self.queue: list[int] = []
        self.board = self
        self.count = [0] * len(State)

    def end(self, task: int, state: State, ran: float = 0.1) -> None:
        """Count a job that ended."""
        self.stats.ended[task][state] += 1
        self.stats.run[task].add(ran)


class Day:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0 * MINUTE_S

    def __call__(self) -> float:
        return self.now


def test_each_minute_has_what_was_done_in_it_and_is_kept_once() -> None:
    active, day, kept = Counted(2), Day(), list[Minute]()
    historian = Historian(active, ["a", "b"], kept.append, day)  # type: ignore[arg-type]
    active.end(0, State.SUCCEEDED)
    active.queue = [1, 2]
    historian.tick(0.0)
    assert kept == []
    day.now += MINUTE_S
    active.end(1, State.FAILED)
    historian.tick(0.0)
    historian.tick(0.0)
    assert [(one.number, one.succeeded, one.failed, one.waiting) for one in kept] == [(1000, 1, 1, 2)]
    assert kept[0].tasks == {"a": (1, 0), "b": (1, 1)}
    assert sum(kept[0].run) == 2
    active.end(0, State.CANCELLED)
    assert [(one.number, one.succeeded, one.cancelled) for one in historian.minutes(2)] == [(1000, 1, 0), (1001, 0, 1)]
    assert [one.number for one in historian.minutes(1)] == [1001]
    historian.stop()
    assert [one.number for one in kept] == [1000, 1001]


def test_a_clock_that_is_set_back_makes_a_minute_longer_and_repeats_none() -> None:
    active, day, kept = Counted(1), Day(), list[Minute]()
    historian = Historian(active, ["a"], kept.append, day)  # type: ignore[arg-type]
    day.now -= 10 * MINUTE_S
    active.end(0, State.SUCCEEDED)
    historian.tick(0.0)
    assert kept == []
    day.now += 11 * MINUTE_S
    historian.tick(0.0)
    assert [(one.number, one.succeeded) for one in kept] == [(1000, 1)]


def test_what_was_read_at_a_start_is_not_done_now_and_no_more_than_a_day_is_kept() -> None:
    active, day = Counted(1), Day()
    historian = Historian(active, ["a"], id, day)  # type: ignore[arg-type]
    active.end(0, State.SUCCEEDED)
    historian.restore([Minute(number, failed=1) for number in range(-KEPT, 1001)])
    found = historian.minutes(10 * KEPT)
    assert (len(found), found[-1].succeeded, found[-1].failed) == (KEPT, 0, 1)


def test_a_minute_names_the_tasks_with_the_most_ends() -> None:
    active, day = Counted(TASKS_MOST + 5), Day()
    historian = Historian(active, [f"t{index}" for index in range(TASKS_MOST + 5)], id, day)  # type: ignore[arg-type]
    for index in range(TASKS_MOST + 5):
        for _ in range(2 if index % 2 else 1):
            active.end(index, State.SUCCEEDED)
    (minute,) = historian.minutes(1)
    assert len(minute.tasks) == TASKS_MOST
    assert all(f"t{index}" in minute.tasks for index in range(1, TASKS_MOST, 2))
    assert minute.succeeded == sum(2 if index % 2 else 1 for index in range(TASKS_MOST + 5))
    assert sum(Histogram.together(active.stats.run).buckets) == minute.succeeded
