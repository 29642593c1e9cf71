"""The offset of the time of day: constant until the clock of the machine is set."""

from __future__ import annotations

import time

import pytest
from headway.core.wall import SET_S, Wall


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let the test set the clock: the sum of the list is added to it."""
    shifts: list[float] = []
    read = time.time
    monkeypatch.setattr(time, "time", lambda: read() + sum(shifts))
    return shifts


def test_the_offset_stays_as_it_is(late: list[float]) -> None:
    wall = Wall()
    begin = wall.offset
    assert begin == pytest.approx(time.time() - time.monotonic(), abs=SET_S)
    late.append(SET_S / 4)
    assert {wall.read() for _ in range(1000)} == {begin}


@pytest.mark.parametrize("shift", [-3600.0, -0.1, 0.1, 86_400.0])
def test_a_clock_that_is_set_is_followed(late: list[float], shift: float) -> None:
    wall = Wall()
    begin = wall.offset
    late.append(shift)
    assert wall.read() == pytest.approx(begin + shift, abs=SET_S)


def test_steps_too_small_to_be_seen_add_up(late: list[float]) -> None:
    wall = Wall()
    begin = wall.offset
    for _ in range(20):
        late.append(SET_S / 4)
        wall.read()
    assert wall.offset == pytest.approx(begin + 5 * SET_S, abs=2 * SET_S)


def test_the_next_process_goes_on_with_the_offset(late: list[float]) -> None:
    wall, before = Wall(), Wall().offset + SET_S / 4
    wall.keep(before)
    assert wall.read() == before
    late.append(60.0)
    wall.keep(before)
    assert wall.offset == pytest.approx(before + 60.0, abs=2 * SET_S)
