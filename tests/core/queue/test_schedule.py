"""The schedule against a plain dict."""

from math import inf, nan

import pytest
from headway.core.queue.schedule import SLACK, Schedule
from hypothesis import given
from hypothesis import strategies as st

STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "remove", "take", "take some"]), st.integers(1, 20), st.integers(0, 30)),
    max_size=100,
)


@given(STEPS)
def test_behaves_as_a_dict_that_is_sorted_by_time(steps: list[tuple[str, int, int]]) -> None:
    schedule, model = Schedule(), dict[int, float]()
    for step, sequence, when in steps:
        if step == "add" and sequence not in model:
            schedule.add(sequence, when)
            model[sequence] = when
        elif step == "remove":
            assert schedule.remove(sequence) == (model.pop(sequence, None) is not None)
        elif step.startswith("take"):
            most = 2 if step == "take some" else inf
            due = sorted((at, number) for number, at in model.items() if at <= when)
            taken = schedule.take(when, most)
            assert taken == [number for _, number in due[: int(min(most, len(due)))]]
            for number in taken:
                del model[number]
        assert schedule.next == min(model.values(), default=inf)
        assert len(schedule) == len(model)
        assert schedule.when == model
        assert all((number in schedule) == (number in model) for number in range(1, 21))


def test_what_was_taken_out_may_come_again_at_another_time() -> None:
    schedule = Schedule()
    schedule.add(1, 5.0)
    assert schedule.remove(1)
    schedule.add(1, 9.0)
    assert schedule.take(5.0) == []
    assert schedule.next == 9.0
    # At the same time, too, it is taken once.
    assert schedule.remove(1)
    schedule.add(1, 9.0)
    assert schedule.take(9.0) == [1]
    assert schedule.take(inf) == []


@pytest.mark.parametrize("when", [nan, inf, -inf])
def test_what_is_no_time_is_refused(when: float) -> None:
    schedule = Schedule()
    schedule.add(1, 2.0)
    with pytest.raises(ValueError, match="job 7 cannot be due at"):
        schedule.add(7, when)
    assert (schedule.next, len(schedule), 7 in schedule) == (2.0, 1, False)


def test_what_was_taken_out_takes_no_more_memory_than_what_is_there() -> None:
    schedule = Schedule()
    for sequence in range(1, 2001):
        schedule.add(sequence, float(sequence))
        if sequence > 10:
            assert schedule.remove(sequence - 5)
        assert schedule.entries <= 2 * len(schedule) + SLACK + 1
    assert len(schedule) == 10
    assert schedule.take(inf) == [1, 2, 3, 4, 5, *range(1996, 2001)]
