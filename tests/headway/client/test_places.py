"""The next step of each wait, with times that the test gives."""

from __future__ import annotations

from threading import Event

import pytest

from headway.client.errors import Unavailable
from headway.client.places import HOLD_S, LOOK_S, ROTATE_S, Kind, Place, Places


def entered(places: Places, count: int, *, batch_id: str | None = None, hint_s: float = 100.0) -> list[Place]:
    """Return places that have entered at 0, the first with the latest hint."""
    found = [Place(f"{number:036x}", batch_id, hint_s - number, Event()) for number in range(count)]
    for place in found:
        places.enter(place, 0.0)
    return found


def held(places: Places, line: list[Place], now: float = 0.0) -> list[Place]:
    """Let each that is woken take its step, until nothing moves. Return the places that are held."""
    taken = []
    moved = True
    while moved:
        moved = False
        for place in line:
            if place.item is not None and places.step(place, now)[0] is Kind.HOLD:
                taken.append(place)
                moved = True
    return taken


def test_slots_are_for_those_that_end_first() -> None:
    places = Places(3)
    line = entered(places, 10)
    assert held(places, line) == [line[9], line[8], line[7]]
    assert places.step(line[6], 0.0)[0] is Kind.REST


def test_a_slot_is_kept_for_less_while_others_wait() -> None:
    places = Places(2)
    first, second = entered(places, 2)
    assert places.step(second, 0.0) == (Kind.HOLD, ROTATE_S)
    assert places.step(first, 0.0) == (Kind.HOLD, HOLD_S)


def test_one_that_has_not_ended_makes_room_for_the_next() -> None:
    places = Places(1)
    line = entered(places, 2)
    assert held(places, line) == [line[1]]
    line[0].event.clear()
    places.told(line[1], 10.0, 500.0)
    assert line[0].event.is_set()
    assert held(places, line, 10.0) == [line[0]]
    line[1].event.clear()
    places.leave(line[0])
    assert line[1].event.is_set()
    assert held(places, line, 10.0) == [line[1]]


def test_what_is_told_of_one_that_is_queued_holds_for_those_behind_it() -> None:
    places = Places(1)
    line = [Place(f"{number:036x}", None, 1.0, Event()) for number in range(4)]
    for place in line:
        places.enter(place, 0.0)
    assert held(places, line) == [line[0]]
    assert held(places, line) == []
    # The second is asked for, and keeps its place before the third.
    places.told(line[1], 2.0, 60.0, queued=True)
    places.leave(line[0])
    assert held(places, line, 2.0) == [line[1]]


def test_one_place_looks_for_all_of_a_batch() -> None:
    places = Places(1)
    line = entered(places, 6, batch_id="b")
    held(places, line)
    assert [places.step(place, LOOK_S)[0] for place in line[:5]] == [Kind.REST] * 4 + [Kind.LOOK]
    assert places.batches() == ["b"]
    assert places.oldest(LOOK_S) is None
    states = {line[0].job_id: "succeeded", line[1].job_id: "running", line[5].job_id: "failed", "another": "failed"}
    # The one with a slot hears its own answer.
    assert places.seen(states, LOOK_S) == 1
    assert line[0].ended is not None
    assert line[0].ended.state == "succeeded"
    assert (line[1].ended, line[5].ended) == (None, None)
    places.looked(LOOK_S, found=1, requests=1)
    assert places.step(line[4], LOOK_S) == (Kind.REST, LOOK_S)
    # Three are left: a look is worth it no longer, each asks at its hint.
    places.leave(line[1])
    assert places.step(line[4], 96.0)[0] is Kind.ASK


def test_looks_that_find_nothing_become_rarer() -> None:
    places = Places(1)
    line = entered(places, 30, hint_s=1e6)
    held(places, line)
    now, intervals = 0.0, []
    for _ in range(60):
        kind, seconds = places.step(line[28], now)
        assert kind is Kind.REST
        intervals.append(seconds)
        now += seconds
        assert places.step(line[28], now)[0] is Kind.LOOK
        places.looked(now, found=0, requests=2)
    assert intervals == pytest.approx(sorted(intervals))
    assert intervals[0] == LOOK_S
    assert intervals[-1] > 5


def test_the_lists_reach_down_to_the_oldest_that_waits() -> None:
    places = Places(1)
    line = entered(places, 30)
    held(places, line)
    assert places.oldest(0.0) == line[0].job_id
    places.without_lists(30.0)
    assert places.oldest(29.0) is None
    assert places.step(line[3], 97.0)[0] is Kind.REST
    assert places.oldest(31.0) == line[0].job_id


def test_a_batch_that_is_gone_is_asked_for_job_by_job() -> None:
    places = Places(1)
    line = entered(places, 6, batch_id="b")
    held(places, line)
    places.gone("b")
    assert places.batches() == []
    assert places.step(line[0], 101.0)[0] is Kind.ASK


def test_an_error_ends_all_that_wait_in_the_line() -> None:
    places = Places(1)
    line = entered(places, 3)
    held(places, line)
    error = Unavailable("away")
    places.give_up(error)
    assert [place.error for place in line] == [error, error, None]


def test_two_may_wait_for_one_job() -> None:
    places = Places(1)
    line = entered(places, 5, batch_id="b")
    twin = Place(line[0].job_id, "b", 100.0, Event())
    places.enter(twin, 0.0)
    held(places, [*line, twin])
    assert places.seen({twin.job_id: "cancelled"}, 1.0) == 2
    places.leave(line[0])
    assert twin.ended is not None
    places.leave(twin)
