"""The wheel: everything once, nothing early, at most a tick late."""

from headway.sim.wheel import TICK_S, Wheel
from hypothesis import given
from hypothesis import strategies as st

BEGAN = 1000.0


class Clocked(Wheel):
    """A wheel that remembers when it was turned last."""

    __slots__ = ("now",)

    def turn(self, now: float) -> float:
        self.now = now
        return super().turn(now)


class Note:
    """Notes when it was due and when that was told; then waits once more if there is ``again``."""

    def __init__(self, wheel: Clocked, delay: float, notes: list[tuple[float, float]], again: float | None = None):
        self.wheel, self.when, self.notes, self.again = wheel, BEGAN + delay, notes, again
        wheel.add(self, self.when)

    def due(self) -> None:
        self.notes.append((self.when, self.wheel.now))
        if self.again is not None:
            self.when, self.again = self.wheel.now + self.again, None
            self.wheel.add(self, self.when)


delays = st.floats(0, 3, allow_nan=False)


@given(st.lists(st.tuples(delays, st.none() | delays)), st.lists(st.floats(0.0001, 0.5), max_size=30))
def test_everything_once_and_nothing_early(plan: list[tuple[float, float | None]], steps: list[float]) -> None:
    wheel, notes, turns = Clocked(BEGAN), list[tuple[float, float]](), [BEGAN]
    for delay, again in plan:
        Note(wheel, delay, notes, again)
    for step in [*steps, 10, 10]:
        turns.append(turns[-1] + step)
        wheel.turn(turns[-1])
    assert len(notes) == sum(1 if again is None else 2 for _, again in plan)
    assert len(wheel) == 0
    for when, now in notes:
        assert now >= when
        # No earlier turn would have been in time.
        assert not any(when + TICK_S <= turn < now for turn in turns)


def test_what_is_late_is_told() -> None:
    wheel, notes = Clocked(BEGAN), list[tuple[float, float]]()
    Note(wheel, 1, notes)
    assert wheel.turn(BEGAN + 0.99) == 0
    assert 0.5 - TICK_S <= wheel.turn(BEGAN + 1.5) <= 0.5
    assert wheel.turn(BEGAN + 2) == 0


def test_what_is_past_is_due_at_the_next_turn() -> None:
    wheel, notes = Clocked(BEGAN), list[tuple[float, float]]()
    wheel.turn(BEGAN + 5)
    Note(wheel, 1, notes)
    wheel.turn(BEGAN + 5 + TICK_S)
    assert notes == [(BEGAN + 1, BEGAN + 5 + TICK_S)]
